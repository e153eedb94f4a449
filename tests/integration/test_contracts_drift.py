"""A rug pull, staged with a real server: refused in strict mode, reported in warn mode (SPEC C1)."""

import asyncio
import contextlib
import json
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from typing import Any

import pytest
import yaml

from supervisor_plugin.ledger import Ledger, LedgerAwayError
from tests.fakes.rug_pull import RugPull
from tests.fixtures_postgres import run_apart
from tests.integration.contracts_sidecar import Guarded, guarded
from tests.ports import free_port
from tests.sidecar import META, MODERN, http, listens, wait_for

PINNED = {"read_note", "delete_note", "table", "become"}
CASES = [
    # mood, names that callers must not see, what the finding says
    ("poisoned", {"read_note"}, "tool read_note changed: description changed"),
    ("widened", {"read_note"}, "inputSchema/properties/path added"),
    ("swapped", {"read_note", "delete_note"}, "tool read_note now says what delete_note said"),
    ("added", {"upload"}, "tool upload is not pinned"),
    ("renamed", {"read_note", "fetch_note"}, "tool read_note is now called fetch_note"),
]


@pytest.fixture(scope="module")
def rug() -> Iterator[RugPull]:
    with RugPull() as server:
        yield server


@pytest.fixture(scope="module")
def strict(tmp_path_factory, module_database, rug) -> Iterator[Guarded]:
    root = tmp_path_factory.mktemp("strict")
    with guarded(root, module_database.dsn("postern_proxy"), rug, contract={"drift": "strict"}) as sidecar:
        yield sidecar


@pytest.fixture
def honest(strict, rug) -> Guarded:
    """The strict sidecar, with everything as pinned."""
    rug.become("honest")
    assert strict.tools() == PINNED
    strict.ask("prompts/list")
    strict.ask("server/discover")
    strict.drifted()
    return strict


@pytest.mark.parametrize(("mood", "withheld", "said"), CASES, ids=[case[0] for case in CASES])
def test_strict_withholds_and_refuses_what_is_not_as_pinned(honest, rug, mood, withheld, said) -> None:
    """The list lacks it, a call of it is refused before the server sees it, the rest goes on, the row says why."""
    rug.become(mood)
    assert honest.tools() == PINNED - withheld
    calls = rug.calls
    for name in withheld:
        answer = honest.use(name, id=1)
        assert answer.status == 403
        assert answer.json()["error"]["data"]["code"] == "contract.drift"
    assert rug.calls == calls
    assert honest.use("table").status == 200
    honest.drifted(*withheld)
    row = honest.rows("decision = 'contract.drift' and method = 'tools/call'")[-1]
    assert row["status"] == "denied"
    events = [each["reason"] for each in honest.rows("method = 'postern/contract' and decision = 'contract.drift'")]
    assert any(said in reason for reason in events), events
    listed = honest.rows("method = 'tools/list'")[-1]
    assert said in (listed["error"] or "")
    assert "WARNING" in honest.log("proxy") or said in honest.log("proxy")


def test_strict_lets_all_pass_again_when_the_server_is_as_pinned(honest, rug) -> None:
    rug.become("poisoned")
    assert "read_note" not in honest.tools()
    honest.drifted("read_note")
    rug.become("honest")
    assert honest.tools() == PINNED
    assert honest.use("read_note", id=1).status == 200
    honest.drifted()
    assert honest.rows("decision = 'contract.restored'")


def test_removed_tool_is_reported(honest, rug) -> None:
    """In the row and the table, as a metric, and to the listener that shows it in `fleet status`."""
    rug.become("removed")
    assert honest.tools() == PINNED - {"delete_note"}
    honest.drifted("delete_note")
    assert honest.use("delete_note", id=1).status == 403
    assert 'postern_contract_drift{server="notes"} 1\n' in http("GET", f"{honest.url}/metrics").body.decode()
    known = run_apart(_as_the_listener_sees_it(honest.dsn.replace("postern_proxy", "postern_owner")))
    assert known == {"notes": "withheld: tool delete_note is gone"}


async def _as_the_listener_sees_it(dsn: str) -> dict[str, str]:
    ledger = Ledger(lambda: dsn, "here", "fleet-1", "boot-1")
    running = asyncio.create_task(ledger.run())
    try:
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(LedgerAwayError):
                    return await ledger.drift()
                await asyncio.sleep(0.02)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_strict_withholds_a_changed_prompt(honest, rug) -> None:
    assert honest.ask("prompts/get", name="summary").status == 200
    rug.become("prompted")
    assert honest.ask("prompts/list").json()["result"]["prompts"] == []
    answer = honest.ask("prompts/get", name="summary")
    assert (answer.status, answer.json()["error"]["data"]["code"]) == (403, "contract.drift")


def test_strict_withholds_changed_instructions_in_both_eras(honest, rug) -> None:
    legacy = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": legacy}
    for mood, expected in (("honest", "Ask before you delete."), ("instructed", None)):
        rug.become(mood)
        assert honest.ask("server/discover").json()["result"].get("instructions") == expected
        greeting = honest.post("notes", hello, honest.token("notes")).json()["result"]
        assert greeting.get("instructions") == expected


def test_list_changed_is_a_reason_to_look(honest, rug) -> None:
    """Nobody lists again: the announcement on a client's stream is enough for the next call to be refused."""
    token = honest.token("notes")
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    greeting = honest.post("notes", hello, token)
    session = {"mcp_session_id": greeting.headers["mcp-session-id"], "mcp_protocol_version": "2025-11-25"}
    honest.post("notes", {"jsonrpc": "2.0", "method": "notifications/initialized"}, token, **session)
    stream = _open_stream(honest, token, greeting.headers["mcp-session-id"])
    try:
        call = {"name": "become", "arguments": {"mood": "poisoned"}}
        message = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call}
        assert honest.post("notes", message, token, **session).status == 200
        honest.drifted("read_note")
        assert honest.use("read_note", id=1).status == 403
    finally:
        stream()


def _open_stream(sidecar: Guarded, token: str, session: str):
    """Open the session's GET stream and read it in the background; the returned function ends that."""
    connection = HTTPConnection("127.0.0.1", sidecar.port, timeout=30)
    headers = {
        "accept": "text/event-stream",
        "authorization": f"Bearer {token}",
        "mcp-session-id": session,
        "mcp-protocol-version": "2025-11-25",
    }
    connection.request("GET", "/notes/mcp", headers=headers)
    response = connection.getresponse()
    assert response.status == 200

    def read() -> None:
        try:
            while response.read1(65_536):
                pass
        except (OSError, ValueError, AttributeError, HTTPException):
            return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()

    def end() -> None:
        """Wake the reader, which holds the response's lock until something comes, and close."""
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)
        reader.join()
        response.close()
        connection.close()

    return end


def test_drift_is_found_at_boot_before_the_first_call(tmp_path, database, rug) -> None:
    """The server changed while the proxy was down; nobody lists; the first call is refused."""
    sidecar_args: dict[str, Any] = {"contract": {"drift": "strict"}, "before": lambda _: rug.become("poisoned")}
    with guarded(tmp_path / "s", database.dsn("postern_proxy"), rug, **sidecar_args) as sidecar:
        assert sidecar.use("read_note", id=1).status == 403
        assert sidecar.use("table").status == 200
        sidecar.drifted("read_note")


def test_strict_refuses_a_server_that_cannot_be_looked_at(tmp_path, database) -> None:
    """What cannot be compared is not known to be as pinned: 503, and it is not called."""
    with RugPull() as rug:

        def vanish(_sidecar: Guarded) -> None:
            rug._process.kill()
            rug._process.wait()

        args: dict[str, Any] = {"contract": {"drift": "strict"}, "before": vanish}
        with guarded(tmp_path / "s", database.dsn("postern_proxy"), rug, **args) as sidecar:
            answer = sidecar.use("table")
            assert (answer.status, answer.json()["error"]["data"]["code"]) == (503, "contract.unverified")


@pytest.fixture(scope="module")
def warn(tmp_path_factory, module_database, rug) -> Iterator[Guarded]:
    root = tmp_path_factory.mktemp("warn")
    with guarded(root, module_database.dsn("postern_proxy"), rug, contract={"drift": "warn"}) as sidecar:
        yield sidecar


@pytest.mark.parametrize(("mood", "named", "said"), CASES, ids=[case[0] for case in CASES])
def test_warn_lets_it_pass_and_tells(warn, rug, mood, named, said) -> None:
    """Callers see and use what the server offers; table, row and log say what is not as pinned."""
    rug.become("honest")
    warn.tools()
    warn.drifted()
    rug.become(mood)
    listed = warn.tools()
    assert listed & named or mood == "renamed"
    name = min(listed & named)
    assert warn.use(name, id=1).status == 200
    warn.drifted(*named)
    assert all(each["mode"] == "warn" for each in warn.drift())
    events = warn.rows("method = 'postern/contract' and decision = 'contract.drift' and status = 'success'")
    assert any(said in each["reason"] for each in events)
    assert said in warn.log("proxy")


def test_what_one_replica_finds_the_others_look_for(honest, rug, tmp_path) -> None:
    """A list through one proxy is enough for a call through another to be refused."""
    file = tmp_path / "postern.yaml"
    port = free_port()
    document = yaml.safe_load(honest.file.read_text(encoding="utf-8"))
    document["proxy"] |= {"port": port, "public_url": honest.url}
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    file.with_name("postern.lock.yaml").write_bytes(honest.file.with_name("postern.lock.yaml").read_bytes())
    argv = [sys.executable, "-m", "registry.cli", "proxy"]
    honest.start("replica", argv, POSTERN_REGISTRY=str(file), POSTERN_INSTANCE="replica")
    url = f"http://127.0.0.1:{port}"
    params = {"name": "read_note", "arguments": {"id": 1}, "_meta": META}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    headers |= {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": "read_note"}
    headers |= {"authorization": f"Bearer {honest.token('notes')}", "host": f"127.0.0.1:{honest.port}"}
    try:
        wait_for(lambda: listens(port) and http("GET", f"{url}/readyz").status == 200, "the replica is ready")
        through_replica = lambda: http("POST", f"{url}/notes/mcp", headers, json.dumps(message).encode()).status
        assert through_replica() == 200
        rug.become("poisoned")
        honest.tools()
        wait_for(lambda: through_replica() == 403, "the replica knows")
        rug.become("honest")
        honest.tools()
        wait_for(lambda: through_replica() == 200, "the replica knows that all is well")
    finally:
        honest.kill("replica", signal.SIGTERM)


def test_skip_says_nothing(tmp_path, database, rug) -> None:
    with guarded(tmp_path / "s", database.dsn("postern_proxy"), rug, contract={"drift": "skip"}, lock=False) as sidecar:
        rug.become("added")
        assert "upload" in sidecar.tools()
        assert sidecar.drift() == []


def test_legacy_and_modern_clients_see_the_same_contracts(warn, rug) -> None:
    """The lock was taken in the modern era; a 2025-11-25 list of the same server is no drift."""
    rug.become("honest")
    warn.tools()
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    token = warn.token("notes")
    greeting = warn.post("notes", {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}, token)
    session = {"mcp_session_id": greeting.headers["mcp-session-id"], "mcp_protocol_version": "2025-06-18"}
    listed = warn.post("notes", {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}, token, **session)
    assert {tool["name"] for tool in listed.json()["result"]["tools"]} == PINNED
    assert json.loads(json.dumps(warn.rows("method = 'tools/list'")[-1]["error"])) is None
    warn.drifted()
