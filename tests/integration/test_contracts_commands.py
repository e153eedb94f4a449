"""`postern lock` and `postern tools`, as people and builds use them."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.fakes.rug_pull import RugPull
from tests.integration.contracts_sidecar import Guarded

TOOLS = {"read_note": {"scopes": ["notes:read"]}, "table": {"artifact": "table"}, "*": {}}


@pytest.fixture(scope="module")
def rug() -> Iterator[RugPull]:
    with RugPull() as server:
        yield server


@pytest.fixture
def fleet(tmp_path, rug) -> Guarded:
    """A registry without a proxy: the commands ask the server itself."""
    rug.become("honest")
    section = {"type": "external", "endpoint": rug.url, "tools": TOOLS}
    return Guarded(tmp_path / "f", "postgresql://unused", {"notes": section})


def tools(fleet: Guarded, *arguments: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "registry.cli", "tools", *arguments]
    return subprocess.run(argv, env=fleet.environment(), capture_output=True, text=True, timeout=60, check=False)


def test_lock_pins_once_and_changes_nothing_without_approval(fleet, rug) -> None:
    file = fleet.file.with_name("postern.lock.yaml")
    assert fleet.lock("--diff").returncode == 1
    assert not file.exists()
    first = fleet.lock()
    assert (first.returncode, file.exists()) == (0, True)
    assert "notes: new: 4 tools, 1 prompt, 1 resource, 1 resource template" in first.stdout
    pinned = file.read_text(encoding="utf-8")
    assert fleet.lock("--diff").returncode == 0
    rug.become("poisoned")
    again = fleet.lock()
    assert (again.returncode, file.read_text(encoding="utf-8")) == (1, pinned)
    assert "tool read_note changed: description changed" in again.stdout
    assert "id_rsa" not in again.stdout


def test_diff_shows_both_sides_and_approve_takes_them_over(fleet, rug) -> None:
    fleet.lock()
    rug.become("widened")
    shown = fleet.lock("--diff")
    assert shown.returncode == 1
    assert "/inputSchema/properties/path: added" in shown.stdout
    assert "  + true" in shown.stdout
    approved = fleet.lock("--approve", "notes")
    assert approved.returncode == 0
    assert "review it and commit it" in approved.stdout
    assert fleet.lock("--diff").returncode == 0
    rug.become("honest")
    assert fleet.lock("--diff").returncode == 1


def test_server_that_is_gone_is_told_and_dropped_with_approval(fleet, rug) -> None:
    fleet.lock()
    fleet.servers["other"] = dict(fleet.servers.pop("notes"), oauth={"required": False}, tools={"*": {}})
    fleet.write_registry()
    told = fleet.lock()
    assert "notes: pinned, but no longer declared" in told.stdout
    assert told.returncode == 1
    fleet.lock("--approve")
    assert "\n  notes:\n" not in fleet.file.with_name("postern.lock.yaml").read_text(encoding="utf-8")


def test_server_that_does_not_run_cannot_be_locked(fleet) -> None:
    """An external one nobody here can start, so that the advice for internal ones is left out."""
    fleet.servers["notes"]["endpoint"] = "http://127.0.0.1:9/mcp"
    fleet.write_registry()
    done = fleet.lock()
    assert done.returncode == 3
    assert "notes: not asked: nothing accepts connections at http://127.0.0.1:9/mcp" in done.stdout
    assert "postern up" not in done.stdout
    assert "wrote" not in done.stdout
    assert not fleet.file.with_name("postern.lock.yaml").exists()


@pytest.mark.parametrize("arguments", [("--diff", "--approve"), ("nobody",), ("--what",)])
def test_wrong_use_is_exit_code_2(fleet, arguments) -> None:
    assert fleet.lock(*arguments).returncode == 2


def test_tools_lists_scopes_and_contracts(fleet) -> None:
    fleet.lock()
    lines = tools(fleet).stdout.splitlines()
    assert lines[0].split() == ["SERVER", "TOOL", "CONTRACT", "SCOPES"]
    assert any(line.split()[1:2] == ["read_note"] and line.endswith("notes:use notes:read") for line in lines)
    assert any(line.split()[1:2] == ["delete_note"] for line in lines)
    assert tools(fleet, "nobody").returncode == 2


def test_artifacts_show_every_output_shape(fleet) -> None:
    fleet.lock()
    shown = tools(fleet, "--artifacts")
    assert shown.returncode == 0
    by_tool = {line.split()[1]: line.split(maxsplit=3)[3] for line in shown.stdout.splitlines()[1:]}
    assert by_tool["read_note"] == "{id: integer, text: string}"
    assert by_tool["table"] == "table"
    assert "undeclared" in by_tool["delete_note"]
    entries = {each["tool"]: each for each in json.loads(tools(fleet, "--artifacts", "--json").stdout)}
    assert entries["table"]["artifact"]["schema"]["title"] == "table"
    assert entries["read_note"]["output_schema"]["required"] == ["id", "text"]
    assert entries["*"]["artifact"] is None
    assert entries["read_note"]["contract"].startswith("sha256:")
