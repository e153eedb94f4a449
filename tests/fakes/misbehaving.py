"""An upstream that breaks the rules, for tests of whoever has to live with it. Raw sockets, no HTTP library.

    python -m tests.fakes.misbehaving --port N --mode MODE [--journal FILE]

Every POST whose JSON-RPC method is `initialize` or `server/discover`, and every notification, is answered properly, so
that a client gets as far as a call; every other request is answered in the given mode. A request can choose its own
mode with the header `x-misbehave: MODE`, or by calling a tool of that name. --honest-handshake=no misbehaves from the first request on. With --journal,
one line per request: method, or the HTTP verb.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeAlias

MEBIBYTE: Final = 1024 * 1024
OVERSIZED_BYTES: Final = 64 * MEBIBYTE
VERSIONS: Final = {"modern": "2026-07-28", "legacy": "2025-11-25"}


class Mode(StrEnum):
    BROKEN_SSE = "broken-sse"
    HALF_JSON = "half-json"
    WRONG_CONTENT_TYPE = "wrong-content-type"
    ENDLESS_EVENT = "endless-event"
    OVERSIZED_BODY = "oversized-body"
    CLOSE_IN_THE_MIDDLE = "close-in-the-middle"
    CLOSE_AT_ONCE = "close-at-once"
    SSE_WITHOUT_ANSWER = "sse-without-answer"
    WRONG_ID = "wrong-id"
    CALL_AND_ANSWER = "call-and-answer"
    ANSWER_IN_OTHER_EVENT = "answer-in-other-event"
    TWO_RESULTS = "two-results"
    TWO_RESULTS_IN_EVENT = "two-results-in-event"
    HANG = "hang"
    HANG_AFTER_HEADERS = "hang-after-headers"
    TOO_MANY_REQUESTS = "429"
    SERVER_ERROR = "500"
    REDIRECT = "redirect"
    NOT_HTTP = "not-http"
    NOT_MCP = "not-mcp"
    DRIP = "drip"
    QUESTION = "question"
    JSON_ERROR = "json-error"
    UNAUTHORIZED = "unauthorized"
    OK = "ok"


Request: TypeAlias = dict[str, Any]
Answer: TypeAlias = Callable[[asyncio.StreamWriter, Request], Awaitable[None]]


def response(status: str, content_type: str, body: bytes, *extra: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-type: {content_type}", f"content-length: {len(body)}", *extra]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def stream_head(content_type: str = "text/event-stream") -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\nconnection: close\r\n\r\n".encode()


def result_of(request: Request) -> bytes:
    result = {"content": [{"type": "text", "text": "ok"}], "resultType": "complete", "isError": False}
    return json.dumps({"jsonrpc": "2.0", "id": request.get("id"), "result": result}).encode()


async def broken_sse(writer: asyncio.StreamWriter, request: Request) -> None:
    writer.write(stream_head() + b"data: {not json\n\nevent message\n: \xff\xfe\ndata: [1,\n\n")


async def half_json(writer: asyncio.StreamWriter, request: Request) -> None:
    body = result_of(request)
    writer.write(response("200 OK", "application/json", body[: len(body) // 2]))


async def wrong_content_type(writer: asyncio.StreamWriter, request: Request) -> None:
    writer.write(response("200 OK", "text/html", b"<html>" + result_of(request) + b"</html>"))


async def endless_event(writer: asyncio.StreamWriter, request: Request) -> None:
    writer.write(stream_head() + b"data: ")
    while not writer.is_closing():
        writer.write(b"x" * 65536)
        await writer.drain()


async def oversized_body(writer: asyncio.StreamWriter, request: Request) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {OVERSIZED_BYTES}\r\n\r\n"
    writer.write(head.encode() + b'{"jsonrpc":"2.0","id":1,"result":{"x":"')
    for _ in range(OVERSIZED_BYTES // 65536):
        writer.write(b"x" * 65536)
        await writer.drain()


async def close_in_the_middle(writer: asyncio.StreamWriter, request: Request) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{")


async def close_at_once(writer: asyncio.StreamWriter, request: Request) -> None:
    del writer, request


async def sse_without_answer(writer: asyncio.StreamWriter, request: Request) -> None:
    note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "leaving"}}
    writer.write(stream_head() + b"event: message\ndata: " + json.dumps(note).encode() + b"\n\n")


async def wrong_id(writer: asyncio.StreamWriter, request: Request) -> None:
    writer.write(response("200 OK", "application/json", result_of({"id": "somebody else's"})))


def two_results(request: Request) -> bytes:
    """Return an answer of which most parsers read the last result, some the first, and some `Result`."""
    told = result_of(request)
    return told.replace(b'"result":', b'"result": {"content": []}, "result":')[:-1] + b', "Result": {"content": []}}'


async def call_and_answer(writer: asyncio.StreamWriter, request: Request) -> None:
    both = json.dumps(json.loads(result_of(request)) | {"method": "ping"}).encode()
    writer.write(stream_head() + b"data: " + both + b"\n\ndata: " + result_of(request) + b"\n\n")


async def answer_in_other_event(writer: asyncio.StreamWriter, request: Request) -> None:
    told = result_of(request)
    writer.write(stream_head() + b"event: answer\ndata: " + told + b"\n\ndata: " + told + b"\n\n")


async def two_results_in_json(writer: asyncio.StreamWriter, request: Request) -> None:
    writer.write(response("200 OK", "application/json; charset=utf-7", two_results(request)))


async def two_results_in_event(writer: asyncio.StreamWriter, request: Request) -> None:
    writer.write(stream_head() + b"data: " + two_results(request) + b"\n\n")


async def hang(writer: asyncio.StreamWriter, request: Request) -> None:
    await asyncio.sleep(3600)


async def hang_after_headers(writer: asyncio.StreamWriter, request: Request) -> None:
    writer.write(stream_head())
    await writer.drain()
    await asyncio.sleep(3600)


async def too_many_requests(writer: asyncio.StreamWriter, request: Request) -> None:
    writer.write(response("429 Too Many Requests", "text/plain", b"slow down", "retry-after: 7"))


async def server_error(writer: asyncio.StreamWriter, request: Request) -> None:
    writer.write(response("500 Internal Server Error", "text/plain", b"Traceback (most recent call last): secret"))


async def redirect(writer: asyncio.StreamWriter, request: Request) -> None:
    writer.write(response("307 Temporary Redirect", "text/plain", b"", "location: http://169.254.169.254/latest/"))


async def not_http(writer: asyncio.StreamWriter, request: Request) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.9\r\n")


async def not_mcp(writer: asyncio.StreamWriter, request: Request) -> None:
    writer.write(response("200 OK", "application/json", b'{"hello":"world"}'))


async def drip(writer: asyncio.StreamWriter, request: Request) -> None:
    writer.write(stream_head())
    while not writer.is_closing():
        writer.write(b": still here\n\n")
        await writer.drain()
        await asyncio.sleep(0.1)


async def question(writer: asyncio.StreamWriter, request: Request) -> None:
    asked = {"jsonrpc": "2.0", "id": 1, "method": "sampling/createMessage", "params": {}}
    writer.write(stream_head() + b"data: " + json.dumps(asked).encode() + b"\n\n")


async def json_error(writer: asyncio.StreamWriter, request: Request) -> None:
    writer.write(response("404 Not Found", "application/json", b'{"detail":"Not Found"}'))


async def unauthorized(writer: asyncio.StreamWriter, request: Request) -> None:
    error = {"jsonrpc": "2.0", "id": request.get("id"), "error": {"code": -32001, "message": "who are you"}}
    challenge = 'www-authenticate: Bearer realm="inside"'
    writer.write(response("401 Unauthorized", "application/json", json.dumps(error).encode(), challenge))


async def ok(writer: asyncio.StreamWriter, request: Request) -> None:
    writer.write(response("200 OK", "application/json", result_of(request)))


ANSWERS: Final[dict[Mode, Answer]] = {
    Mode.BROKEN_SSE: broken_sse,
    Mode.HALF_JSON: half_json,
    Mode.WRONG_CONTENT_TYPE: wrong_content_type,
    Mode.ENDLESS_EVENT: endless_event,
    Mode.OVERSIZED_BODY: oversized_body,
    Mode.CLOSE_IN_THE_MIDDLE: close_in_the_middle,
    Mode.CLOSE_AT_ONCE: close_at_once,
    Mode.SSE_WITHOUT_ANSWER: sse_without_answer,
    Mode.WRONG_ID: wrong_id,
    Mode.CALL_AND_ANSWER: call_and_answer,
    Mode.ANSWER_IN_OTHER_EVENT: answer_in_other_event,
    Mode.TWO_RESULTS: two_results_in_json,
    Mode.TWO_RESULTS_IN_EVENT: two_results_in_event,
    Mode.HANG: hang,
    Mode.HANG_AFTER_HEADERS: hang_after_headers,
    Mode.TOO_MANY_REQUESTS: too_many_requests,
    Mode.SERVER_ERROR: server_error,
    Mode.REDIRECT: redirect,
    Mode.NOT_HTTP: not_http,
    Mode.NOT_MCP: not_mcp,
    Mode.DRIP: drip,
    Mode.QUESTION: question,
    Mode.JSON_ERROR: json_error,
    Mode.UNAUTHORIZED: unauthorized,
    Mode.OK: ok,
}


def handshake(request: Request) -> bytes | None:
    """The proper answer to the opening of a conversation; None for any other request."""
    capabilities = {"tools": {}}
    info = {"name": "misbehaving", "version": "1"}
    if "id" not in request:
        return b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
    result: dict[str, Any]
    match request.get("method"):
        case "initialize":
            result = {"protocolVersion": VERSIONS["legacy"], "capabilities": capabilities, "serverInfo": info}
            extra = ("mcp-session-id: misbehaving-session-0123456789abcdef",)
        case "server/discover":
            result = {"supportedVersions": [VERSIONS["modern"]], "capabilities": capabilities}
            result |= {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
            extra = ()
        case _:
            return None
    body = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode()
    return response("200 OK", "application/json", body, *extra)


def _mode_named_by(request: Request) -> str | None:
    tool = str((request.get("params") or {}).get("name"))
    return tool if tool in set(Mode) else None


class Misbehaving:
    """One listening socket; every connection serves requests until an answer ends it."""

    def __init__(self, mode: Mode, *, is_handshake_honest: bool = True, journal: Path | None = None) -> None:
        self.mode = mode
        self.is_handshake_honest = is_handshake_honest
        self.journal = journal

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._serve_one(reader, writer):
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection can take another request."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        verb = head[0].partition(" ")[0]
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        request: Request = json.loads(body) if body else {}
        self._note(str(request.get("method", verb)))
        if verb == "GET":
            writer.write(response("405 Method Not Allowed", "text/plain", b"", "allow: POST, DELETE"))
            return True
        if verb == "DELETE":
            writer.write(response("200 OK", "text/plain", b""))
            return True
        proper = handshake(request) if self.is_handshake_honest else None
        if proper is not None:
            writer.write(proper)
            return True
        mode = Mode(headers.get("x-misbehave", _mode_named_by(request) or self.mode))
        await ANSWERS[mode](writer, request)
        return mode in {Mode.OK, Mode.NOT_MCP, Mode.WRONG_ID, Mode.WRONG_CONTENT_TYPE, Mode.TOO_MANY_REQUESTS}

    def _note(self, line: str) -> None:
        if self.journal is not None:
            with self.journal.open("a") as journal:
                journal.write(line + "\n")


async def run(upstream: Misbehaving, port: int) -> None:
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", port)
    sys.stderr.write(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp\n")
    sys.stderr.flush()
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.misbehaving")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--mode", type=Mode, choices=list(Mode), required=True)
    parser.add_argument("--honest-handshake", choices=["yes", "no"], default="yes")
    parser.add_argument("--journal", type=Path, default=None)
    options = parser.parse_args()
    honest = options.honest_handshake == "yes"
    upstream = Misbehaving(options.mode, is_handshake_honest=honest, journal=options.journal)
    try:
        asyncio.run(run(upstream, options.port))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
