"""A reload applies per server, and a bad one changes nothing (SPEC R4)."""

import secrets
import signal
import threading
from collections.abc import Iterator
from copy import deepcopy

import pytest

from tests.fakes.recorder import Recorder
from tests.sidecar import Sidecar, http, wait_for


@pytest.fixture
def sidecar(tmp_path, database) -> Iterator[Sidecar]:
    with Recorder() as recorder:
        external = {"type": "external", "endpoint": f"http://127.0.0.1:{recorder.port}/mcp", "tools": {"echo": {}}}
        servers = {name: deepcopy(external) for name in ("a", "b")}
        sidecar = Sidecar(tmp_path / "s", database.dsn("postern_proxy"), servers)
        try:
            sidecar.start_proxy()
            yield sidecar
        finally:
            sidecar.stop()


def _hang_up(sidecar: Sidecar) -> None:
    sidecar.processes["proxy"].send_signal(signal.SIGHUP)


def test_rotating_one_servers_key_drops_no_request_of_another(sidecar) -> None:
    """While `b` is called without pause, the key of `a` is replaced: every call to `b` is answered."""
    old, token_b = sidecar.token("a"), sidecar.token("b")
    assert sidecar.call("a", "echo", {}, old).status == 200
    statuses: list[int] = []
    done = threading.Event()

    def hammer() -> None:
        while not done.is_set():
            statuses.append(sidecar.call("b", "echo", {}, token_b).status)

    callers = [threading.Thread(target=hammer) for _ in range(4)]
    for caller in callers:
        caller.start()
    try:
        for _ in range(5):
            sidecar.keys["a"] = secrets.token_hex(32)
            (sidecar.state / "keys" / "a.key").write_text(sidecar.keys["a"], encoding="utf-8")
            before = len(statuses)
            _hang_up(sidecar)
            fresh = sidecar.token("a")
            wait_for(lambda token=fresh: sidecar.call("a", "echo", {}, token).status == 200, "the new key counts")
            wait_for(lambda count=before: len(statuses) > count + 20, "calls go on")
    finally:
        done.set()
        for caller in callers:
            caller.join()
    assert set(statuses) == {200}
    assert sidecar.call("a", "echo", {}, old).status == 401


def test_bad_reload_leaves_the_running_fleet_alone_and_is_visible(sidecar) -> None:
    """One wrong line: nothing changes, `/readyz` says so, and the log names the line; mended, the change applies."""
    good = sidecar.file.read_text(encoding="utf-8")
    sidecar.file.write_text(good.replace("tools:", "tolls:", 1), encoding="utf-8")
    _hang_up(sidecar)
    wait_for(lambda: "refused" in http("GET", f"{sidecar.url}/readyz").json()["registry"], "the refusal is visible")
    assert "tolls" in sidecar.log("proxy")
    assert sidecar.call("a", "echo", {}, sidecar.token("a")).status == 200
    sidecar.servers["a"]["tools"] = {"write": {}}
    names = {"allowed_origins": ["https://app.test"], "allowed_hosts": ["gw.test"]}
    sidecar.registry["proxy"] = names
    sidecar.write_registry()
    _hang_up(sidecar)
    wait_for(lambda: http("GET", f"{sidecar.url}/readyz").json()["registry"] == "current", "the good one applies")
    assert sidecar.call("a", "write", {}, sidecar.token("a")).status == 200
    assert sidecar.call("a", "echo", {}, sidecar.token("a")).status != 200
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert sidecar.post("a", ping, sidecar.token("a"), origin="https://app.test", host="gw.test").status == 200
    assert sidecar.post("a", ping, sidecar.token("a"), origin="https://other.test").status == 403


def test_removed_server_is_gone_and_an_added_one_is_there(sidecar) -> None:
    """After the reload the address of the removed server is unknown, and the new one answers."""
    token = sidecar.token("b")
    sidecar.servers["c"] = deepcopy(sidecar.servers["b"])
    del sidecar.servers["b"]
    sidecar.keys["c"] = sidecar.keys["b"]
    sidecar.write_registry()
    _hang_up(sidecar)
    wait_for(lambda: sidecar.call("b", "echo", {}, token).status == 404, "b is gone")
    assert sidecar.call("c", "echo", {}, sidecar.token("c", "b:use")).status == 200
