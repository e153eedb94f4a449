"""A broken contract is found at the gate, and there is a way from nothing to locked (SPEC C1, R4)."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor_plugin.gatekeeper import RegistryRefusedError, read_registry
from tests.fakes.rug_pull import RugPull
from tests.fixtures_postgres import run_apart
from tests.integration.contracts_sidecar import Guarded, guarded, pin_schema
from tests.sidecar import http, listens, wait_for

PYTHON = sys.executable
STRICT = {"drift": "strict"}


@pytest.fixture(scope="module")
def rug() -> Iterator[RugPull]:
    with RugPull() as server:
        yield server


@pytest.fixture
def sidecar(tmp_path) -> Iterator[Guarded]:
    """Two internal servers, one for each transport, strict and never locked. Nothing of it runs."""
    servers: dict[str, dict[str, Any]] = {
        "notes": {"command": [PYTHON, "-m", "tests.fakes.rug_pull", "--port", "{port}"]},
        "tiny": {"command": [PYTHON, "-m", "tests.fakes.tiny"], "transport": "stdio"},
    }
    for section in servers.values():
        path = {"PYTHONPATH": {"value": str(Path(__file__).parents[2])}}
        section |= {"tools": {"*": {}}, "contract": dict(STRICT), "env": path}
    made = Guarded(tmp_path / "f", "postgresql://unused@127.0.0.1:9/x", servers)
    yield made
    made.stop()


def command(sidecar: Guarded, *words: str) -> "subprocess.CompletedProcess[str]":
    argv = [PYTHON, "-m", "registry.cli", *words]
    return subprocess.run(argv, env=sidecar.environment(), capture_output=True, text=True, timeout=120, check=False)


def checked(sidecar: Guarded) -> list[tuple[str, str]]:
    """Return file and code of everything that `postern check` finds."""
    found = json.loads(command(sidecar, "check", "--format", "json").stdout)["problems"]
    return [(Path(each["file"]).name, each["code"]) for each in found]


def test_way_from_nothing_to_locked(sidecar) -> None:
    """The gate refuses, names line and way out; `postern lock --start` starts what does not run, pins it and ends it."""
    refused = command(sidecar, "check")
    assert refused.returncode == 1
    line = next(n for n, text in enumerate(sidecar.file.read_text().splitlines(), 1) if "drift: strict" in text)
    assert f"postern.yaml:{line}:14: CONTRACT-UNLOCKED servers.notes.contract.drift: strict, but" in refused.stdout
    assert f"{line:>5} |       drift: strict\n      |              ^" in refused.stdout
    assert "hint: run `postern lock --start notes`" in refused.stdout
    assert checked(sidecar) == [("postern.yaml", "CONTRACT-UNLOCKED")] * 2
    said = sidecar.fails_to_start(1)
    assert said.count("CONTRACT-UNLOCKED") == 2
    with pytest.raises(RegistryRefusedError, match=rf"postern.yaml:{line}:14: CONTRACT-UNLOCKED .* \(and 1 more\)"):
        run_apart(read_registry(sidecar.file, {**os.environ, **sidecar.environment()}))

    asked = sidecar.lock()
    assert asked.returncode == 3
    assert "postern lock --start notes" in asked.stdout
    done = sidecar.lock("--start")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "notes: new: 4 tools" in done.stdout
    assert "tiny: new: " in done.stdout
    assert not any(listens(section["port"]) for section in sidecar.servers.values())
    assert checked(sidecar) == []
    assert sidecar.lock("--start", "--diff").returncode == 0


def test_internal_server_is_asked_with_the_credential_that_the_proxy_presents(sidecar) -> None:
    """As the demo's own Excel server, it takes calls from the proxy only."""
    guarded_by = ["--port", "{port}", "--required-header", "x-key=upstream-key"]
    notes = sidecar.servers["notes"]
    notes["command"] = [PYTHON, "-m", "tests.fakes.echo_headers", *guarded_by]
    sidecar.servers = {"notes": notes}
    sidecar.write_registry()
    assert "HTTP 401" in sidecar.lock("--start").stdout
    notes["headers"] = [{"name": "x-key", "value": "upstream-key"}]
    sidecar.write_registry()
    done = sidecar.lock("--start")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "notes: new: 1 tool" in done.stdout


def test_server_that_cannot_be_started_is_told_with_its_last_words(sidecar) -> None:
    sidecar.servers["notes"]["command"] = [PYTHON, "-c", "import sys; sys.exit('no licence on this machine')"]
    sidecar.write_registry()
    done = sidecar.lock("--start")
    assert done.returncode == 3
    assert "notes: not asked: it ended with exit code 1: no licence on this machine" in done.stdout
    assert "tiny: new: " in done.stdout


def test_run_refuses_what_it_cannot_start(sidecar, rug) -> None:
    """An unknown or external server is wrong use; a port that is taken is said with who has it."""
    assert command(sidecar, "run", "nobody").returncode == 2
    sidecar.servers["notes"]["port"] = rug.port
    sidecar.write_registry()
    refused = command(sidecar, "run", "notes")
    assert refused.returncode == 3
    assert f"port {rug.port} is taken by pid " in refused.stderr


def test_proxy_holds_every_contract_to_the_gate_at_start_and_reload(tmp_path, database, rug) -> None:
    """Edited by hand, another digest, a tool that the lock does not know, a schema that cannot be used: each refused."""
    dsn = database.dsn("postern_proxy")
    tools: dict[str, Any] = {"read_note": {}, "table": {}}
    with guarded(tmp_path / "s", dsn, rug, contract=dict(STRICT), tools=tools, start=False) as sidecar:
        lock = sidecar.file.with_name("postern.lock.yaml")
        good = lock.read_text(encoding="utf-8")
        edited = good.replace("Delete one note for good", "Delete all notes").replace("All notes as a", "No notes as a")
        lock.write_text(edited, encoding="utf-8")
        assert checked(sidecar) == [("postern.lock.yaml", "LOCK-BROKEN")] * 2
        said = sidecar.fails_to_start(1)
        assert "servers.notes.tools.delete_note.digest: its definition does not fit its digest" in said
        assert "take it back from version control" in said
        lock.write_text(good, encoding="utf-8")
        sidecar.start_proxy()
        assert sidecar.tools() == {"read_note", "table"}

        def refused(code: str) -> None:
            assert [found for _, found in checked(sidecar)] == [code]
            before = sidecar.log("proxy").count(code)
            sidecar.processes["proxy"].send_signal(signal.SIGHUP)
            wait_for(lambda: sidecar.log("proxy").count(code) > before, f"the reload is refused for {code}")
            wait_for(lambda: "refused" in http("GET", f"{sidecar.url}/readyz").json()["registry"], "it is visible")
            assert sidecar.use("read_note", id=1).status == 200

        section = sidecar.servers["notes"]["tools"]
        section["reed_note"] = {}
        sidecar.write_registry()
        refused("CONTRACT-UNKNOWN")
        del section["reed_note"]
        section["read_note"] = {"contract": "sha256:" + "0" * 64}
        sidecar.write_registry()
        refused("CONTRACT-DIGEST")
        section["read_note"] = {}
        sidecar.write_registry()
        pin_schema(lock, {"type": "object", "$ref": "http://127.0.0.1:9/x.json"})
        refused("CONTRACT-SCHEMA")
        lock.unlink()
        refused("CONTRACT-UNLOCKED")
        lock.write_text(good, encoding="utf-8")
        sidecar.processes["proxy"].send_signal(signal.SIGHUP)
        wait_for(lambda: http("GET", f"{sidecar.url}/readyz").json()["registry"] == "current", "the good one applies")
