"""A server with tasks of both eras inside the test process; the test decides what becomes of them.

It knows nobody: whoever names one of its ids, which are easy to guess, gets the task. `work` is its tool. On the
handshake era a call with `task` makes one, on the modern era every call of a client that declares the extension. While
`polls` is set, streams of the handshake era are closed before the answer, which waits for a GET with Last-Event-ID.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Json = dict[str, Any]

EXTENSION = "io.modelcontextprotocol/tasks"
RELATED = "io.modelcontextprotocol/related-task"
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is no news."""


class Tasking:
    """Listens while used as a context manager. `seen` holds (headers, message); `tasks` maps ids to their state."""

    def __init__(self) -> None:
        self.seen: list[tuple[Json, Json]] = []
        self.tasks: dict[str, Json] = {}
        self.changed = threading.Condition(threading.RLock())
        self.is_over = False
        self.ttl: int | None = 60_000
        self.wrong_id: str | None = None
        self.polls = False
        self.stored: dict[str, Json] = {}
        self.streams: list[list[Json]] = []
        self._count = 0
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self.changed:
            self.is_over = True
            self.changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def make(self, *, is_modern: bool) -> Json:
        """Make a task."""
        with self.changed:
            self._count += 1
            ttl = {"ttlMs": self.ttl} if is_modern else {"ttl": self.ttl}
            now = "2026-11-28T00:00:00Z"
            task_id = f"task-{self._count}"
            task: Json = {"taskId": task_id, "status": "working", "createdAt": now, "lastUpdatedAt": now, **ttl}
            self.tasks[task_id] = task
            return task

    def forget(self) -> None:
        """Lose every task and begin to count anew, as a server does that was restarted."""
        with self.changed:
            self.tasks.clear()
            self._count = 0

    def change(self, task_id: str, **more: Any) -> None:
        """Change a task, and tell whoever listens."""
        with self.changed:
            self.tasks[task_id] |= more
            self.say({"jsonrpc": "2.0", "method": "notifications/tasks", "params": self.tasks[task_id]})

    def say(self, message: Json) -> None:
        """Send a message, as it is now, on every stream that is open."""
        with self.changed:
            for stream in self.streams:
                stream.append(json.loads(json.dumps(message)))
            self.changed.notify_all()

    def last(self, method: str) -> tuple[Json, Json]:
        """Return headers and message of the last request of a method; of none where there was none."""
        return next((each for each in reversed(self.seen) if each[1].get("method") == method), ({}, {}))


def _handler(server: Tasking) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name is the library's
            """Stay silent."""

        def _say(self, document: Json | None, status: int = 200, **headers: str) -> None:
            if server.polls and document is not None and "2025" in (self.headers["mcp-protocol-version"] or ""):
                server.stored[f"event-{document['id']}"] = document
                self._send(b"id: event-%d\ndata: \n\n" % document["id"], "text/event-stream")
                return
            body = json.dumps(document).encode() if document is not None else b""
            self._send(body, "application/json" if body else None, status, **headers)

        def _send(self, body: bytes, kind: str | None, status: int = 200, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            if kind is not None:
                self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _follow(self, *first: Json) -> None:
            """Answer with a stream of `first` and of what the server says from now on."""
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            self.close_connection = True
            waiting = list(first)
            with server.changed:
                server.streams.append(waiting)
                server.changed.notify_all()
                try:
                    while not server.is_over:
                        while waiting:
                            self.wfile.write(b"data: %b\n\n" % json.dumps(waiting.pop(0)).encode())
                        self.wfile.flush()
                        server.changed.wait(0.05)
                        self.wfile.write(b": alive\n\n")
                except OSError:
                    return
                finally:
                    server.streams.remove(waiting)

        def do_GET(self) -> None:
            last = self.headers["last-event-id"]
            self._follow(*([server.stored[last]] if last in server.stored else []))

        def do_DELETE(self) -> None:
            self._say(None)

        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["content-length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            with server.changed:
                server.seen.append((headers, message))
                server.changed.notify_all()
            if "id" not in message or "method" not in message:
                self._say(None, 202)
            elif message["method"] == "subscriptions/listen":
                wanted = message["params"]["notifications"]
                meta = {SUBSCRIPTION: message["id"]}
                params = {"notifications": wanted, "_meta": meta}
                self._follow({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params})
            else:
                self._answer(message, is_modern="2026" in headers.get("mcp-protocol-version", ""))

        def _answer(self, message: Json, *, is_modern: bool) -> None:
            method, params = message["method"], message.get("params", {})
            answer = {"jsonrpc": "2.0", "id": message["id"]}
            if method == "initialize":
                capabilities = {"tools": {}, "tasks": {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}}
                info = {"name": "tasking", "version": "1"}
                opened = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": info}
                self._say({**answer, "result": opened}, mcp_session_id=f"s-{len(server.seen)}")
                return
            found = self._called(params, is_modern) if method == "tools/call" else self._about(method, params)
            if found is None:
                error = {"code": -32602, "message": "Failed to retrieve task: Task not found"}
                self._say({**answer, "error": error}, 400 if is_modern else 200)
            else:
                extra = {"resultType": "complete"} if is_modern else {}
                self._say({**answer, "result": {**extra, **found}})

        def _called(self, params: Json, is_modern: bool) -> Json:
            if is_modern and EXTENSION in params["_meta"][_CAPABILITIES].get("extensions", {}):
                return {**server.make(is_modern=True), "resultType": "task"}
            if not is_modern and "task" in params:
                return {"task": server.make(is_modern=False)}
            return {"content": [{"type": "text", "text": "at once"}]}

        def _about(self, method: str, params: Json) -> Json | None:
            if method == "tasks/list":
                return {"tasks": list(server.tasks.values()), "nextCursor": "task-1"}
            with server.changed:
                task = server.tasks.get(params.get("taskId", ""))
                if task is None:
                    return None
                if method == "tasks/cancel":
                    task["status"] = "cancelled"
                if method == "tasks/update":
                    return {}
                if method == "tasks/result":
                    server.changed.wait_for(lambda: server.is_over or "result" in task, timeout=20)
                    return {**task["result"], "_meta": {RELATED: {"taskId": task["taskId"]}}}
                return {**task, "taskId": server.wrong_id or task["taskId"]}

    return Handler
