"""A client that reads event streams while they come, for tests that look at what a stream says and when."""

import contextlib
import json
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import asyncpg
import yaml

from tests.fakes.stateful import TOOLS, Stateful
from tests.fixtures_postgres import Database, PrivatePostgres, run_apart
from tests.ports import free_port
from tests.sidecar import Sidecar, http, listens, wait_for

Json = dict[str, Any]
_OPEN: "list[Stream]" = []


def leave_all() -> None:
    """Close what a test has left open."""
    while _OPEN:
        _OPEN.pop().leave()


@dataclass
class Event:
    """One event: its fields, and the moment in which it was whole."""

    data: str = ""
    id: str | None = None
    retry: str | None = None
    comment: str | None = None
    at: float = field(default_factory=time.monotonic)

    @property
    def message(self) -> Any:
        """The JSON document in it; None where there is none."""
        return json.loads(self.data) if self.data else None


class Stream:
    """One request whose answer is read in the background. Use as a context manager: leaving it leaves the server."""

    def __init__(self, url: str, method: str, headers: dict[str, str], body: bytes | None = None) -> None:
        parts = urlsplit(url)
        self.events: list[Event] = []
        self.is_over = False
        self.failure: Exception | None = None
        self.body = b""
        self._connection = HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        self._connection.request(method, parts.path, body, headers)
        self._response: HTTPResponse | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        _OPEN.append(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Close the connection, whatever the server still wants to say."""
        with contextlib.suppress(OSError, AttributeError):
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._reader.join(timeout=10)

    @property
    def answer(self) -> HTTPResponse:
        """Status and headers, once they are there."""
        wait_for(lambda: self._response or self.is_over, "the answer begins")
        assert self._response is not None, self.failure
        return self._response

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.answer.status

    def header(self, name: str) -> str:
        """One header of the answer."""
        return self.answer.getheader(name) or ""

    @property
    def messages(self) -> list[Any]:
        """The JSON-RPC messages that have arrived."""
        return [event.message for event in list(self.events) if event.data]

    @property
    def last_id(self) -> str:
        """The last event id that has arrived."""
        return next(event.id for event in reversed(self.events) if event.id)

    def wait(self, what: Any, sentence: str, limit_s: float = 20.0) -> Any:
        """Poll until `what(self)`."""
        return wait_for(lambda: what(self), f"{sentence}; got {self.events}, over: {self.is_over}", limit_s)

    def wait_for_messages(self, count: int = 1) -> list[Any]:
        """Return the messages once there are so many."""
        self.wait(lambda me: len(me.messages) >= count, f"{count} messages")
        return self.messages

    def wait_for_end(self, limit_s: float = 20.0) -> None:
        """Return once the stream is over."""
        self.wait(lambda me: me.is_over, "the stream ends", limit_s)

    def _read(self) -> None:
        try:
            self._response = self._connection.getresponse()
            if (self._response.getheader("content-type") or "").startswith("text/event-stream"):
                self._read_events(self._response)
            else:
                self.body = self._response.read()
        except (OSError, HTTPException, ValueError, AttributeError) as error:
            self.failure = error
        finally:
            if self._response is not None:
                self._response.close()
            self._connection.close()
        self.is_over = True

    def _read_events(self, response: HTTPResponse) -> None:
        event = Event()
        while line := response.readline():
            text = line.decode().rstrip("\r\n")
            name, _, value = text.partition(":")
            if not text:
                event.at = time.monotonic()
                self.events.append(event)
                event = Event()
            elif not name:
                event.comment = value.strip()
            else:
                setattr(event, name, value.removeprefix(" "))


class Legacy:
    """A client of the handshake era: raw requests with a session."""

    def __init__(self, sidecar: Sidecar, server: str, token: str | None = None, url: str | None = None) -> None:
        self.sidecar = sidecar
        self.server = server
        self.token = token or sidecar.token(server)
        self.url = f"{url or sidecar.url}/{server}/mcp"
        self.session: str | None = None
        self._next = 0

    def at(self, url: str) -> "Legacy":
        """The same client with the same session at another replica."""
        other = Legacy(self.sidecar, self.server, self.token, url)
        other.session, other._next = self.session, self._next + 1000
        return other

    def headers(self, **more: str) -> dict[str, str]:
        """What a client of this era sends."""
        sent = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "authorization": f"Bearer {self.token}",
        }
        if self.session is not None:
            sent |= {"mcp-session-id": self.session, "mcp-protocol-version": "2025-11-25"}
        return sent | {name.replace("_", "-"): value for name, value in more.items()}

    def send(self, message: Json, **more: str) -> Stream:
        """POST a message."""
        return Stream(self.url, "POST", self.headers(**more), json.dumps(message).encode())

    def ask(self, method: str, params: Json | None = None, **more: str) -> Stream:
        """POST a request."""
        self._next += 1
        message = {"jsonrpc": "2.0", "id": self._next, "method": method, "params": params or {}}
        return self.send(message, **more)

    def call(self, tool: str, **arguments: Any) -> Stream:
        """POST a tools/call."""
        return self.ask("tools/call", {"name": tool, "arguments": arguments})

    def tell(self, method: str, params: Json | None = None) -> Stream:
        """POST a notification."""
        return self.send({"jsonrpc": "2.0", "method": method, "params": params or {}})

    def get(self, last_event_id: str | None = None) -> Stream:
        """Open a GET stream."""
        return Stream(self.url, "GET", self.headers(**({"last_event_id": last_event_id} if last_event_id else {})))

    def delete(self) -> Stream:
        """End the session."""
        return Stream(self.url, "DELETE", self.headers())

    def initialize(self) -> Self:
        """Open a session."""
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
        opened = self.ask("initialize", params)
        assert opened.status == 200, document(opened)
        self.session = opened.header("mcp-session-id") or None
        opened.wait_for_end()
        told = self.tell("notifications/initialized")
        assert told.status == 202
        told.leave()
        return self


def document(stream: Stream) -> Any:
    """Return the JSON-RPC message that an answer carries, as a document or as its last event."""
    stream.wait_for_end()
    return stream.messages[-1] if stream.events else json.loads(stream.body)


class Scene:
    """A proxy in front of servers of the test, and the rows that it wrote."""

    def __init__(
        self,
        root: Path,
        database: Database | PrivatePostgres,
        servers: dict[str, dict[str, Any]],
        registry: dict[str, Any] | None = None,
    ) -> None:
        settings = {"audit": {"refusals_per_source": 1_000_000}} | (registry or {})
        self.sidecar = Sidecar(root, database.dsn("postern_proxy"), servers, settings)
        self._auditor = database.dsn("postern_auditor")
        self._owner = database.dsn()
        self.upstream_port = 0

    def start_replica(self, name: str = "replica") -> str:
        """Start another proxy on the same database and registry; return its address."""
        port = free_port()
        file = self.sidecar.root / f"{name}.yaml"
        document = yaml.safe_load(self.sidecar.file.read_text(encoding="utf-8"))
        document["proxy"] |= {"port": port, "public_url": self.sidecar.url}
        file.write_text(yaml.safe_dump(document), encoding="utf-8")
        argv = [sys.executable, "-m", "registry.cli", "proxy"]
        process = self.sidecar.start(name, argv, POSTERN_REGISTRY=str(file), POSTERN_INSTANCE=name)
        url = f"http://127.0.0.1:{port}"

        def is_ready() -> bool:
            assert process.poll() is None, self.sidecar.log(name)
            return listens(port) and http("GET", f"{url}/readyz").status == 200

        wait_for(is_ready, f"{name} is ready")
        return url

    def client(self, server: str, **claims: Any) -> Legacy:
        """Return a client that has a session."""
        return Legacy(self.sidecar, server, self.sidecar.token(server, **claims)).initialize()

    def rows(self, where: str = "true", *arguments: object) -> list[dict[str, Any]]:
        """Return rows of the log, oldest first."""
        return self.query(f"select * from audit_log where {where} order by started_at, execution_id", *arguments)

    def row(self, stream: Stream) -> dict[str, Any]:
        """Return the one row of an answer."""
        found = self.rows("execution_id = $1::text::uuid", stream.header("x-postern-execution-id"))
        assert len(found) == 1, f"{len(found)} rows"
        return found[0]

    def late_row(self, stream: Stream) -> dict[str, Any]:
        """Return the one row of an answer, as soon as it is there."""
        execution = stream.header("x-postern-execution-id")
        wait_for(lambda: self.rows("execution_id = $1::text::uuid", execution), "the row is written")
        return self.row(stream)

    def query(self, statement: str, *arguments: object) -> list[dict[str, Any]]:
        """Ask the database as its owner."""

        async def ask() -> list[dict[str, Any]]:
            connection = await asyncpg.connect(self._owner)
            try:
                return [dict(row) for row in await connection.fetch(statement, *arguments)]
            finally:
                await connection.close()

        return run_apart(ask())


def external(upstream: Stateful, **section: Any) -> dict[str, Any]:
    """Return the registry section of a server of the test."""
    tools: dict[str, Any] = {name: {} for name in TOOLS if name != "secret"}
    tools["secret"] = {"scopes": ["more:secret"]}
    return {"type": "external", "endpoint": f"http://127.0.0.1:{upstream.port}/mcp", "tools": tools, **section}
