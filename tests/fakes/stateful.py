"""A server with sessions, streams and an event store inside the test process, whose fate and manners the test decides.

Tools (by name, on the handshake era): `echo` answers at once; `poll` primes its stream and closes it, the answer waits
for a GET with Last-Event-ID; `slow` primes, takes its time (`release` ends it), and answers whoever holds the stream, as
`secret` does;
`ask` asks the client by sampling first; `list` is tools/list over a resumable stream. Its event ids are the same in
every session, as in careless event stores.
"""

import json
import select
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self

TOOLS = ("echo", "poll", "slow", "ask", "mute", "secret")
Json = dict[str, Any]
Manner = Literal["json", "sse", "stateless"]


def event(message: Json | None, event_id: str | None = None, retry: int | None = None) -> bytes:
    """Return the bytes of an event; without a message one that primes the stream."""
    lines = [f"id: {event_id}"] if event_id else []
    lines += [f"retry: {retry}"] if retry is not None else []
    lines.append(f"data: {json.dumps(message) if message is not None else ''}")
    return ("\n".join(lines) + "\n\n").encode()


@dataclass
class Line:
    """One stream of events; `wires` are the sockets that it is sent on."""

    name: str
    events: list[bytes] = field(default_factory=list)
    wires: list[Any] = field(default_factory=list)
    is_over: bool = False


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A proxy that was killed resets its connections; that is no news."""


class Stateful:
    """Listens while used as a context manager. `seen` holds (HTTP method, headers, message)."""

    def __init__(self, manner: Manner = "json", *, lost_status: int = 404) -> None:
        self.manner: Manner = manner
        self.lost_status = lost_status
        self.refuses_initialize = False
        self.version = "2025-11-25"
        self.seen: list[tuple[str, dict[str, str], Any]] = []
        self.answers: list[Json] = []
        self.sessions: dict[str, dict[str, Line]] = {}
        self.release = threading.Event()
        self.connections: list[socket.socket] = []
        self.changed = threading.Condition(threading.RLock())
        self.is_down = False
        self._count = 0
        self._port = 0
        self._server: _Server | None = None

    @property
    def port(self) -> int:
        """Where it listens; the same after a restart."""
        return self._port

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen."""
        self.is_down = False
        self._server = _Server(("127.0.0.1", self._port), _handler(self))
        self._port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def stop(self) -> None:
        """Die: every session, stream and connection is gone."""
        self.is_down = True
        self.forget()
        self.release.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            for connection in list(self.connections):
                _cut(connection)
            self._thread.join()
            self._server = None

    def restart(self) -> None:
        """Die and come back without a memory."""
        self.stop()
        self.release.clear()
        self.start()

    def forget(self) -> None:
        """Lose every session and close its streams."""
        with self.changed:
            for lines in self.sessions.values():
                for line in lines.values():
                    line.is_over = True
                    for wire in line.wires:
                        _cut(wire)
            self.sessions.clear()
            self.changed.notify_all()

    def say(self, message: Json, event_id: str | None = None) -> int:
        """Send a message on every standing stream; return on how many."""
        with self.changed:
            lines = [lines["standing"] for lines in self.sessions.values() if "standing" in lines]
            return sum(self.append(line, event(message, event_id)) for line in lines)

    def hang_up(self, session: str) -> None:
        """Close the standing stream of a session properly."""
        with self.changed:
            self.sessions[session].pop("standing").is_over = True
            self.changed.notify_all()

    def append(self, line: Line, data: bytes) -> int:
        """Store an event and send it to whoever listens; return to how many."""
        with self.changed:
            line.events.append(data)
            for wire in list(line.wires):
                if not _send(wire, data):
                    line.wires.remove(wire)
            self.changed.notify_all()
            return len(line.wires)

    def requests(self, method: str) -> list[Json]:
        """Return the messages of one JSON-RPC method that have arrived."""
        return [message for _, _, message in self.seen if isinstance(message, dict) and message.get("method") == method]

    def new_session(self) -> str:
        """Open a session."""
        with self.changed:
            self._count += 1
            name = f"upstream-{self._count}-{self._port}"
            self.sessions[name] = {}
            return name


def _send(wire: socket.socket, data: bytes) -> bool:
    readable, _, _ = select.select([wire], [], [], 0)
    if readable:
        return False
    try:
        wire.sendall(b"%x\r\n%b\r\n" % (len(data), data))
    except OSError:
        return False
    return True


def _cut(wire: socket.socket) -> None:
    try:
        wire.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def _handler(server: Stateful) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name is the library's
            """Stay silent."""

        # --- plumbing

        def setup(self) -> None:
            super().setup()
            server.connections.append(self.connection)

        def finish(self) -> None:
            server.connections.remove(self.connection)
            super().finish()

        def _take(self) -> Any:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            message = json.loads(body) if body else None
            with server.changed:
                server.seen.append((self.command, {k.lower(): v for k, v in self.headers.items()}, message))
                server.changed.notify_all()
            return message

        def _json(self, status: int, document: Any, **headers: str) -> None:
            body = json.dumps(document).encode() if document is not None else b""
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            if body:
                self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _stream(self, **headers: str) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.flush()

        def _end(self) -> None:
            try:
                self.connection.sendall(b"0\r\n\r\n")
            except OSError:
                self.close_connection = True

        def _lines(self) -> dict[str, Line] | None:
            """The streams of the session that the request names; an error is answered where it is not known."""
            if server.manner == "stateless":
                return {}
            name = self.headers.get("mcp-session-id")
            if name in server.sessions:
                return server.sessions[name]
            code, text = (
                (-32000, "No valid session ID provided") if server.lost_status == 400 else (-32600, "Session not found")
            )
            status = server.lost_status if name else 400
            self._json(status, {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": text}})
            return None

        # --- methods

        def do_POST(self) -> None:
            message = self._take()
            if message.get("method") == "initialize":
                self._initialize(message)
                return
            lines = self._lines()
            if lines is None:
                return
            if "method" not in message:
                with server.changed:
                    server.answers.append(message)
                    server.changed.notify_all()
                self._json(202, None)
            elif "id" not in message:
                self._json(202, None)
            elif message["method"] == "tools/call":
                self._call(message, lines)
            elif message["method"] == "tools/list":
                self._listed(message, lines)
            else:
                self._json(200, {"jsonrpc": "2.0", "id": message["id"], "result": {}})

        def _initialize(self, message: Json) -> None:
            if server.refuses_initialize:
                error = {"code": -32603, "message": "not now"}
                self._json(400, {"jsonrpc": "2.0", "id": message["id"], "error": error})
                return
            result = {
                "protocolVersion": server.version,
                "capabilities": {"tools": {}, "logging": {}, "resources": {"subscribe": True}},
                "serverInfo": {"name": "stateful", "version": "1"},
            }
            answer = {"jsonrpc": "2.0", "id": message["id"], "result": result}
            headers = {} if server.manner == "stateless" else {"mcp_session_id": server.new_session()}
            if server.manner == "sse":
                self._stream(**headers)
                self.connection.sendall(_chunk(event(None, "prime-0", 100)) + _chunk(event(answer, "prime-1")))
                self._end()
            else:
                self._json(200, answer, **headers)

        def _listed(self, message: Json, lines: dict[str, Line]) -> None:
            tools = [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]
            answer = {"jsonrpc": "2.0", "id": message["id"], "result": {"tools": tools}}
            if message.get("params", {}).get("cursor") == "poll":
                line = lines.setdefault(f"r{message['id']}", Line(f"r{message['id']}"))
                self._stream()
                self.connection.sendall(_chunk(event(None, f"{line.name}:0")))
                self._end()
                server.append(line, event(answer, f"{line.name}:1"))
                line.is_over = True
            else:
                self._json(200, answer)

        def _call(self, message: Json, lines: dict[str, Line]) -> None:
            tool, rpc_id = message["params"]["name"], message["id"]
            result: Json = {"content": [{"type": "text", "text": tool}]}
            if tool == "echo":
                result["content"][0]["text"] = json.dumps(message["params"].get("arguments"))
                self._json(200, {"jsonrpc": "2.0", "id": rpc_id, "result": result})
                return
            line = lines.setdefault(f"r{rpc_id}", Line(f"r{rpc_id}"))
            answer = {"jsonrpc": "2.0", "id": rpc_id, "result": result}
            self._stream()
            if tool == "ask":
                self._ask(line, answer)
                return
            self.connection.sendall(_chunk(event(None, f"{line.name}:0", 100)))
            if tool == "poll":
                self._end()
                server.append(line, event(answer, f"{line.name}:1"))
                line.is_over = True
                return
            line.wires.append(self.connection)
            server.append(line, b": alive\n\n")
            while not server.release.wait(0.02) and not line.is_over:
                self._drop_if_left(line)
            if tool in {"slow", "secret"}:
                server.append(line, event(answer, f"{line.name}:1"))
                line.is_over = True
                if self.connection in line.wires:
                    self._end()

        def _drop_if_left(self, line: Line) -> None:
            with server.changed:
                if self.connection in line.wires and select.select([self.connection], [], [], 0)[0]:
                    line.wires.remove(self.connection)
                    self.close_connection = True

        def _ask(self, line: Line, answer: Json) -> None:
            question = {"jsonrpc": "2.0", "id": f"q-{line.name}", "method": "sampling/createMessage", "params": {}}
            self.connection.sendall(_chunk(event(question)))
            with server.changed:
                server.changed.wait_for(lambda: server.is_down or _answer_in(server, question["id"]), timeout=20)
                said = _answer_in(server, question["id"])
            answer["result"]["content"][0]["text"] = json.dumps(said)
            self.connection.sendall(_chunk(event(answer)))
            self._end()

        def do_GET(self) -> None:
            self._take()
            lines = self._lines()
            if lines is None:
                return
            if server.manner == "stateless":
                self._json(405, None, allow="POST")
                return
            last = self.headers.get("last-event-id")
            name, _, position = (last or "standing:0").partition(":")
            line = lines.setdefault(name, Line(name)) if name == "standing" else lines.get(name)
            if line is None:
                self._json(400, {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "no such event"}})
            elif line.wires and name != "standing" and not line.is_over:
                self._json(409, {"jsonrpc": "2.0", "id": None, "error": {"code": -32000, "message": "Conflict"}})
            else:
                self._follow(line, int(position), is_new=last is None)

        def _follow(self, line: Line, position: int, *, is_new: bool) -> None:
            with server.changed:
                self._stream()
                earlier = [] if is_new else [data for data in line.events if data.startswith(b"id: ")][position:]
                self.connection.sendall(b"".join(_chunk(data) for data in earlier))
                if not line.is_over:
                    line.wires.append(self.connection)
                    server.changed.notify_all()
            while not line.is_over and self.connection in line.wires:
                with server.changed:
                    server.changed.wait(0.02)
                self._drop_if_left(line)
            if self.connection in line.wires or not line.wires:
                self._end()

        def do_DELETE(self) -> None:
            self._take()
            if self._lines() is not None:
                with server.changed:
                    for line in server.sessions.pop(self.headers["mcp-session-id"], {}).values():
                        line.is_over = True
                self._json(200, None)

    return Handler


def _answer_in(server: Stateful, rpc_id: object) -> Json | None:
    return next((answer for answer in server.answers if answer["id"] == rpc_id), None)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
