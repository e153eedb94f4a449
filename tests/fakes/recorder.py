"""An MCP server inside the test process that remembers every byte it was sent, so that a test can say: it saw nothing."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

TOOLS = ["echo", "write", "secret", "Echo"]
PRIVATE_HEADERS = {
    "set_cookie": "session=1",
    "www_authenticate": "Basic",
    "proxy_authenticate": "Basic",
    "access_control_allow_origin": "*",
    "x_user_id": "root",
    "x_proxy_verified": "true",
    "keep_alive": "timeout=5",
    "location": "https://elsewhere.test",
}


def tool(name: str) -> dict[str, Any]:
    """Return a tool's definition."""
    schema = {"type": "object", "properties": {"text": {"type": "string"}}, "additionalProperties": True}
    return {
        "name": name,
        "description": f"The tool {name}",
        "inputSchema": schema,
        "annotations": {"readOnlyHint": True},
    }


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A proxy that was killed resets its connections; that is no news."""


class Recorder:
    """Listens on an ephemeral loopback port while used as a context manager; `seen` holds (method, headers, body).

    It also publishes `key_set` at /keys, as an issuer would, and sends headers that are nobody's business with answers.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[str, list[tuple[str, str]], bytes]] = []
        self.key_set: dict[str, Any] = {"keys": []}
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base's name
                """Stay silent."""

            def _record(self) -> bytes:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = [(name.lower(), value) for name, value in self.headers.items()]
                recorder.seen.append((self.command, headers, body))
                return body

            def _send(self, status: int, body: bytes, **headers: str) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                message = json.loads(self._record())
                if "id" not in message:
                    self._send(202, b"")
                    return
                more = {"mcp_session_id": f"upstream-{len(recorder.seen)}"} if message["method"] == "initialize" else {}
                headers = [(n, v) for n, v in recorder.seen[-1][1]]
                answer = {"jsonrpc": "2.0", "id": message["id"], **outcome_of(message, headers)}
                self._send(200, json.dumps(answer).encode(), **PRIVATE_HEADERS, **more)

            def do_GET(self) -> None:
                if self.path == "/keys":
                    self._send(200, json.dumps(recorder.key_set).encode())
                    return
                self._record()
                self._send(405, b"", allow="POST")

            def do_DELETE(self) -> None:
                self._record()
                self._send(200, b"")

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def bodies(self) -> list[Any]:
        """The JSON documents that arrived."""
        return [json.loads(body) for _, _, body in self.seen if body]


def outcome_of(message: dict[str, Any], headers: list[tuple[str, str]]) -> dict[str, Any]:
    """Return result or error. A call that says what to `say` gets that back, with our credential in place of KEY."""
    arguments = message.get("params", {}).get("arguments") or {}
    if "say" not in arguments:
        return {"result": result_of(message, headers)}
    said = json.loads(json.dumps(arguments["say"]).replace("KEY", json.dumps(dict(headers)["x-api-key"])[1:-1]))
    if arguments.get("as") == "error":
        return {"error": {"code": -32000, "message": said}}
    text = said if isinstance(said, str) else json.dumps(json.dumps(said)).replace("/", "\\/")
    is_error = arguments.get("as") == "tool_error"
    return {"result": {"resultType": "complete", "content": [{"type": "text", "text": text}], "isError": is_error}}


def result_of(message: dict[str, Any], headers: list[tuple[str, str]]) -> dict[str, Any]:
    """Return the result of one request; `echo` returns its arguments and the headers that came with it."""
    modern = "io.modelcontextprotocol/protocolVersion" in message.get("params", {}).get("_meta", {})
    base: dict[str, Any] = {"resultType": "complete"} if modern else {}
    match message["method"]:
        case "initialize":
            info = {"name": "recorder", "version": "1"}
            capabilities: dict[str, Any] = {"tools": {}}
            return {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": info}
        case "tools/list":
            listed = [tool(name) for name in TOOLS]
            paging = {"ttlMs": 1000, "cacheScope": "public"} if modern else {}
            return {**base, **paging, "tools": listed, "nextCursor": "more"}
        case "tools/call":
            text = json.dumps({"arguments": message["params"].get("arguments"), "headers": headers})
            return {**base, "content": [{"type": "text", "text": text}]}
        case _:
            return base
