"""`postern secret rotate` on a running proxy: during the overlap nobody is logged out, and no other server notices."""

import json
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import jwt
import pytest
import yaml

from tests.fakes.recorder import Recorder
from tests.sidecar import Sidecar, wait_for


@pytest.fixture
def sidecar(tmp_path, database) -> Iterator[Sidecar]:
    with Recorder() as recorder:
        section = {"type": "external", "endpoint": f"http://127.0.0.1:{recorder.port}/mcp", "tools": {"echo": {}}}
        servers = {name: {**section, "oauth": {"scopes": [f"{name}:use"]}} for name in ("a", "b")}
        sidecar = Sidecar(tmp_path / "s", database.dsn("postern_proxy"), servers)
        try:
            sidecar.start_proxy()
            yield sidecar
        finally:
            sidecar.stop()


def rotate(sidecar: Sidecar, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "registry.cli", "secret", "rotate", *arguments]
    return subprocess.run(command, env=sidecar.environment(), capture_output=True, text=True, timeout=60, check=False)


def newest_key(sidecar: Sidecar) -> dict[str, str]:
    document = yaml.safe_load(sidecar.file.read_text(encoding="utf-8"))
    return document["servers"]["a"]["oauth"]["keys"][0]


def test_tokens_of_both_keys_are_good_during_the_overlap_and_the_other_server_goes_on(sidecar: Sidecar):
    old, token_b = sidecar.token("a", "a:use"), sidecar.token("b", "b:use")
    assert sidecar.call("a", "echo", {}, old).status == 200
    statuses: list[tuple[str, int]] = []
    done = threading.Event()

    def hammer(server: str, token: str) -> None:
        while not done.is_set():
            statuses.append((server, sidecar.call(server, "echo", {}, token).status))

    callers = [threading.Thread(target=hammer, args=caller) for caller in (("a", old), ("b", token_b))]
    for caller in callers:
        caller.start()
    try:
        key = sidecar.state / "keys/a-new.key"
        key.write_text(secrets.token_hex(32), encoding="utf-8")
        key.chmod(0o600)
        rotated = rotate(sidecar, "a", "--secret", f"file:{key}")
        assert rotated.returncode == 0, rotated.stderr
        sidecar.processes["proxy"].send_signal(signal.SIGHUP)
        claims = jwt.decode(old, options={"verify_signature": False})
        headers = {"kid": newest_key(sidecar)["kid"]}
        new = jwt.encode(claims, key.read_text(encoding="utf-8"), algorithm="HS256", headers=headers)
        wait_for(lambda: sidecar.call("a", "echo", {}, new).status == 200, "the new key counts")
        before = len(statuses)
        wait_for(lambda: len(statuses) > before + 20, "calls go on")
    finally:
        done.set()
        for caller in callers:
            caller.join()
    assert {status for _, status in statuses} == {200}, json.dumps(statuses[-5:])
    assert {server for server, _ in statuses} == {"a", "b"}


def test_a_rotation_to_a_key_that_is_too_short_changes_nothing(sidecar: Sidecar):
    before = sidecar.file.read_text(encoding="utf-8")
    key = sidecar.state / "keys/short.key"
    key.write_text("short", encoding="utf-8")
    key.chmod(0o600)
    refused = rotate(sidecar, "a", "--secret", f"file:{key}")
    assert refused.returncode == 1
    assert "KEY-SHORT" in refused.stderr
    assert sidecar.file.read_text(encoding="utf-8") == before
    assert sidecar.call("a", "echo", {}, sidecar.token("a", "a:use")).status == 200
