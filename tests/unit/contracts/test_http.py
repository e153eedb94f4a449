"""The road of `postern lock`: whatever a stranger's server answers, it is bounded and read as JSON or not at all."""

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from registry.contracts import http
from registry.contracts.catalogue import CatalogueError
from registry.contracts.http import HttpTransport

HELLO = {"jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": {}}
ANSWER = {"jsonrpc": "2.0", "id": 7, "result": {"tools": []}}


class Stranger(ThreadingHTTPServer):
    """Answers everything with `headers` and then `body`, as often as `times` says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.headers: dict[str, str] = {}
        self.body, self.times = b"", 1
        self.url = f"http://127.0.0.1:{self.server_port}/mcp"


class Handler(BaseHTTPRequestHandler):
    server: Any

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay silent."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.asked = {name.lower(): value for name, value in self.headers.items()}
        self.send_response(200)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            for _ in range(self.server.times):
                self.wfile.write(self.server.body)
        except OSError:
            return


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    server = Stranger()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


async def ask(stranger: Stranger, content_type: str, body: bytes, times: int = 1, **headers: str) -> Any:
    stranger.headers = {"content-type": content_type, **{k.replace("_", "-"): v for k, v in headers.items()}}
    stranger.body, stranger.times = body, times
    async with HttpTransport(stranger.url, {"x-key": "k"}, 30.0) as transport:
        return (await transport.send("POST", {}, HELLO)).message


async def test_answer_is_read_in_both_forms(stranger) -> None:
    encoded = json.dumps(ANSWER).encode()
    assert await ask(stranger, "application/json", encoded) == ANSWER
    assert stranger.asked["x-key"] == "k"  # pyright: ignore[reportAttributeAccessIssue]
    assert stranger.asked["accept-encoding"] == "identity"  # pyright: ignore[reportAttributeAccessIssue]
    halves = json.dumps(ANSWER, indent=1).encode().splitlines()
    for end in (b"\n", b"\r\n", b"\r"):
        lines = [b": hi", b'data: {"method": "x"}', b"", b"id: 1", *(b"data: " + half for half in halves), b"", b""]
        assert await ask(stranger, "text/event-stream", end.join(lines)) == ANSWER


@pytest.mark.parametrize("body", [b"", b"[1]", b"nonsense", b"[" * 100_000])
async def test_answer_that_is_no_object_is_none(stranger, body) -> None:
    assert await ask(stranger, "application/json", body) is None


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("body", [b"x" * 65_536, b"data: x\n" * 8_192])
async def test_answer_without_an_end_is_cut_off(stranger, content_type, body) -> None:
    """One line that never ends, or ever more of them: no more than the limit is held."""
    with pytest.raises(CatalogueError, match="larger than"):
        await ask(stranger, content_type, body, times=10 + http._MAX_BYTES // 65_536)


async def test_compressed_answer_is_not_unpacked(stranger) -> None:
    """A few bytes could become gigabytes before anybody has counted them."""
    with pytest.raises(CatalogueError, match="compressed"):
        await ask(stranger, "application/json", gzip.compress(b"[" * 10_000_000), content_encoding="gzip")


async def test_stream_that_ends_without_an_answer_is_told(stranger) -> None:
    with pytest.raises(CatalogueError, match="ended without an answer"):
        await ask(stranger, "text/event-stream", b'data: {"id": 8}\n\n')
