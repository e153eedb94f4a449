"""The MCP server that stands behind every target: as fast as Python allows, so that what is measured is the proxy.

    python -m tests.bench.upstream [--port N] [--answer-bytes N]

One tool, `echo`, in both eras. Its answer has the request's id and the same text each time; with `"stream": seconds`
among its arguments the answer is an event stream that stays open so long. `subscriptions/listen` stays open until its
client goes.
"""

import argparse
import asyncio
import re
from typing import Any, cast

import httptools
import msgspec
import uvloop

from tests.bench.serving import announce, listen

ID = re.compile(rb'"id":\s*("[^"]*"|-?\d+)')
CALL = b'"tools/call"'
JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
ACCEPTED = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
SESSION_HEAD = JSON_HEAD.replace(b"\r\n\r\n", b"\r\nmcp-session-id: bench\r\n\r\n")
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\ntransfer-encoding: chunked\r\n\r\n"
TOOL: dict[str, Any] = {
    "name": "echo",
    "description": "Answers with a text",
    "inputSchema": {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "limit": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "stream": {"type": "number"},
        },
        "required": ["text"],
    },
    "outputSchema": {
        "type": "object",
        "properties": {"rows": {"type": "integer"}, "kind": {"type": "string"}},
        "required": ["rows", "kind"],
    },
    "annotations": {"readOnlyHint": True},
}


def answer_bytes(size: int) -> tuple[bytes, bytes]:
    """Return what stands before and after the id in an answer of about `size` bytes."""
    result: dict[str, Any] = {
        "resultType": "complete",
        "content": [{"type": "text", "text": ""}],
        "structuredContent": {"rows": 3, "kind": "bench"},
        "isError": False,
    }
    bare = len(msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "result": result}))
    text = ("The quick brown fox jumps over the lazy dog. " * (size // 45 + 1))[: max(0, size - bare)]
    result["content"][0]["text"] = text
    return b'{"jsonrpc":"2.0","id":', b',"result":' + msgspec.json.encode(result) + b"}"


class Server(asyncio.Protocol):
    """One connection; requests are answered in their order, at once."""

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before = before
        self._after = after
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_begin(self) -> None:
        self._body = b""

    def on_body(self, body: bytes) -> None:
        self._body = self._body + body if self._body else body

    def on_message_complete(self) -> None:
        if CALL in self._body and b'"stream":' not in self._body:
            found = ID.search(self._body)
            self._send(JSON_HEAD, self._before + (found[1] if found else b"null") + self._after)
        else:
            self._answer_rarely()

    def _send(self, head: bytes, body: bytes) -> None:
        self._transport.write(head % len(body) + body)

    def _answer_rarely(self) -> None:
        """Everything that is not measured."""
        if not self._body:
            self._transport.write(ACCEPTED.replace(b"202 Accepted", b"405 Method Not Allowed"))
            return
        message: dict[str, Any] = msgspec.json.decode(self._body)
        if "id" not in message:
            self._transport.write(ACCEPTED)
        elif message["method"] == "tools/call":
            self._stream(message)
        elif message["method"] == "subscriptions/listen":
            self._transport.write(STREAM_HEAD + _chunk(acknowledged(message["id"])))
        else:
            answer = {"jsonrpc": "2.0", "id": message["id"], "result": result_of(message)}
            head = SESSION_HEAD if message["method"] == "initialize" else JSON_HEAD
            self._send(head, msgspec.json.encode(answer))

    def _stream(self, message: dict[str, Any]) -> None:
        """One event at once, the answer after a while."""
        self._transport.write(STREAM_HEAD + _chunk(b": open\n\n"))
        event = b"data: " + self._before + msgspec.json.encode(message["id"]) + self._after + b"\n\n"
        seconds = float(message["params"]["arguments"]["stream"])
        asyncio.get_running_loop().call_later(seconds, self._end, _chunk(event) + b"0\r\n\r\n")

    def _end(self, rest: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(rest)


def acknowledged(rpc_id: object) -> bytes:
    """Return the event that begins a subscription."""
    meta = {"io.modelcontextprotocol/subscriptionId": rpc_id}
    params = {"notifications": {"toolsListChanged": True}, "_meta": meta}
    message = {"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params}
    return b"data: " + msgspec.json.encode(message) + b"\n\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def result_of(message: dict[str, Any]) -> dict[str, Any]:
    """Return the result of a request that is no tool call."""
    params = message.get("params") or {}
    is_modern = "io.modelcontextprotocol/protocolVersion" in params.get("_meta", {})
    common: dict[str, Any] = {"resultType": "complete"} if is_modern else {}
    info = {"name": "bench", "version": "1"}
    match message["method"]:
        case "initialize":
            return {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}
        case "server/discover":
            paging = {"ttlMs": 60_000, "cacheScope": "public"}
            supported = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "serverInfo": info}
            return {**common, **paging, **supported}
        case "tools/list":
            return {**common, **({"ttlMs": 60_000, "cacheScope": "public"} if is_modern else {}), "tools": [TOOL]}
        case _:
            return common


async def serve(port: int, size: int) -> None:
    """Serve until the end."""
    before, after = answer_bytes(size)
    with listen(port) as listener:
        server = await asyncio.get_running_loop().create_server(lambda: Server(before, after), sock=listener)
        announce(listener)
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.upstream")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--answer-bytes", type=int, default=1024)
    options = parser.parse_args()
    uvloop.run(serve(options.port, options.answer_bytes))


if __name__ == "__main__":
    main()
