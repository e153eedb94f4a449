"""Servers that break the rules or take too long: a clear JSON-RPC error, a true row, no hang, no leak (SPEC S5)."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.fakes.misbehaving import Misbehaving, Mode
from tests.sidecar import META, MODERN, wait_for
from tests.streaming import Legacy, Scene, Stream, document, leave_all

LIMITS = {"first_byte_s": 0.8, "idle_s": 0.8, "total_s": 2.5}
SMALL = {"response_bytes": 262_144}


class Background:
    """A misbehaving server in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        starting = asyncio.start_server(Misbehaving(Mode.OK).serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(10)
        self.port = int(self._server.sockets[0].getsockname()[1])

    def stop(self) -> None:
        async def end() -> None:
            self._server.close()
            rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Background]:
    background = Background()
    yield background
    background.stop()


@pytest.fixture(scope="module")
def deaf() -> Iterator[int]:
    """A port where connections are never accepted: its queue is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port
        for filler in fillers:
            filler.close()


@pytest.fixture(scope="module")
def scene(tmp_path_factory, module_database, upstream, deaf) -> Iterator[Scene]:
    tools: dict[str, Any] = {mode: {} for mode in Mode}
    common = {"type": "external", "tools": tools}
    servers = {
        "bad": common | {"endpoint": f"http://127.0.0.1:{upstream.port}/mcp", "timeouts": LIMITS, "limits": SMALL},
        "deaf": common | {"endpoint": f"http://127.0.0.1:{deaf}/mcp", "timeouts": {"connect_s": 0.5}},
    }
    scene = Scene(tmp_path_factory.mktemp("bad"), module_database, servers)
    try:
        scene.sidecar.start_proxy()
        yield scene
    finally:
        scene.sidecar.stop()


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    yield
    leave_all()


def modern(scene: Scene, tool: str, server: str = "bad") -> Stream:
    """Call a tool as a 2026-07-28 client."""
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "_meta": META}}
    headers = {
        "authorization": f"Bearer {scene.sidecar.token(server)}",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": MODERN,
        "mcp-method": "tools/call",
        "mcp-name": tool,
    }
    return Stream(f"{scene.sidecar.url}/{server}/mcp", "POST", headers, json.dumps(message).encode())


def legacy(scene: Scene, tool: str) -> Stream:
    """Call a tool in a session; its id is 2."""
    return Legacy(scene.sidecar, "bad").initialize().call(tool)


CASES = [
    (Mode.BROKEN_SSE, 502, "failed", "upstream.broken_answer"),
    (Mode.HALF_JSON, 502, "failed", "upstream.broken_answer"),
    (Mode.WRONG_CONTENT_TYPE, 502, "failed", "upstream.broken_answer"),
    (Mode.ENDLESS_EVENT, 502, "failed", "upstream.broken_answer"),
    (Mode.OVERSIZED_BODY, 502, "failed", "upstream.too_large"),
    (Mode.CLOSE_IN_THE_MIDDLE, 502, "failed", "upstream.disconnected"),
    (Mode.CLOSE_AT_ONCE, 502, "failed", "upstream.disconnected"),
    (Mode.SSE_WITHOUT_ANSWER, 200, "failed", "upstream.broken_answer"),
    (Mode.WRONG_ID, 502, "failed", "upstream.broken_answer"),
    (Mode.CALL_AND_ANSWER, 502, "failed", "upstream.broken_answer"),
    (Mode.ANSWER_IN_OTHER_EVENT, 502, "failed", "upstream.broken_answer"),
    (Mode.HANG, 504, "timeout", "upstream.timeout.first_byte"),
    (Mode.HANG_AFTER_HEADERS, 504, "timeout", "upstream.timeout.idle"),
    (Mode.DRIP, 200, "timeout", "upstream.timeout.total"),
    (Mode.REDIRECT, 502, "failed", "upstream.broken_answer"),
    (Mode.NOT_HTTP, 502, "failed", "upstream.protocol"),
    (Mode.NOT_MCP, 502, "failed", "upstream.broken_answer"),
]


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize(("mode", "http_status", "status", "code"), CASES)
def test_what_is_no_answer_becomes_a_clear_error_and_a_true_row(scene, era, mode, http_status, status, code) -> None:
    begun = time.monotonic()
    answered = modern(scene, mode) if era == "modern" else legacy(scene, mode)
    message = document(answered)
    assert time.monotonic() - begun < 15
    assert answered.status == http_status
    assert message["id"] == (7 if era == "modern" else 2)
    assert message["error"]["data"]["code"] == code
    row = scene.row(answered)
    assert message["error"]["data"]["executionId"] == str(row["execution_id"])
    assert (row["status"], row["decision"], row["http_status"], row["tool"]) == (status, code, http_status, mode)
    assert row["upstream_us"] is not None
    assert row["error"]


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize("mode", [Mode.TWO_RESULTS, Mode.TWO_RESULTS_IN_EVENT])
def test_what_parsers_could_read_in_two_ways_is_told_as_it_was_read(scene, era, mode) -> None:
    """Client and row get the same answer, and nothing but it."""
    answered = modern(scene, mode) if era == "modern" else legacy(scene, mode)
    told = document(answered)
    raw = "".join(event.data for event in answered.events) or answered.body.decode()
    assert raw.lower().count('"result"') == 1
    assert json.loads(scene.row(answered)["output"]) == told["result"]
    assert "utf-7" not in answered.header("content-type")


@pytest.mark.parametrize(
    ("mode", "said", "http_status", "header"),
    [
        (Mode.TOO_MANY_REQUESTS, 429, 429, ("retry-after", "7")),
        (Mode.SERVER_ERROR, 500, 502, None),
        (Mode.JSON_ERROR, 404, 404, None),
    ],
)
def test_a_bare_http_error_becomes_a_json_rpc_error_that_tells_nothing_else(
    scene, mode, said, http_status, header
) -> None:
    answered = modern(scene, mode)
    message = document(answered)
    assert answered.status == http_status
    assert (message["id"], message["error"]["data"]["code"]) == (7, "upstream.http_error")
    assert b"secret" not in answered.body
    if header:
        assert answered.header(header[0]) == header[1]
    row = scene.row(answered)
    assert (row["status"], row["http_status"], row["error"]) == ("failed", http_status, f"HTTP {said}")


def test_a_servers_own_authentication_is_no_challenge_for_the_client(scene) -> None:
    """Its JSON-RPC error passes, its 401 does not: the client could only answer with the wrong token."""
    answered = modern(scene, Mode.UNAUTHORIZED)
    assert answered.status == 502
    assert document(answered)["error"]["message"] == "who are you"
    assert answered.header("www-authenticate") == ""


def test_a_server_that_asks_by_a_request_in_the_modern_era_is_broken(scene) -> None:
    answered = modern(scene, Mode.QUESTION)
    assert document(answered)["error"]["data"]["code"] == "upstream.broken_answer"
    assert "forbids" in scene.row(answered)["error"]


def test_a_server_that_accepts_nobody_exceeds_the_connect_limit(scene) -> None:
    """The call was never handed over, and the row says so."""
    answered = modern(scene, Mode.OK, "deaf")
    assert answered.status == 504
    assert document(answered)["error"]["data"]["code"] == "upstream.timeout.connect"
    row = scene.row(answered)
    assert (row["status"], row["decision"], row["upstream_us"]) == ("timeout", "upstream.timeout.connect", None)


def test_a_standing_stream_that_the_server_refuses_says_so(scene) -> None:
    client = Legacy(scene.sidecar, "bad").initialize()
    refused = client.get()
    assert (refused.status, refused.header("allow")) == (405, "POST, DELETE")
    assert document(refused)["error"]["data"]["code"] == "upstream.http_error"


def test_nothing_is_left_open_after_all_that(scene, upstream) -> None:
    """Connections to the server are idle or gone, and the proxy still answers."""
    proxy = psutil.Process(scene.sidecar.processes["proxy"].pid)
    assert document(modern(scene, Mode.OK))["result"]["content"]

    def is_quiet() -> bool:
        towards = [c for c in proxy.net_connections("tcp") if c.raddr and c.raddr.port == upstream.port]
        return len(towards) <= 2

    wait_for(is_quiet, "connections to the server are closed")
    assert (
        scene.query(
            "select count(*) as open from audit_intents i where not exists "
            "(select from audit_log l where l.execution_id = i.execution_id)"
        )[0]["open"]
        == 0
    )
    assert "Traceback" not in scene.sidecar.log("proxy")
