"""A governed call from the client's bytes to the answer's, through every room, with nothing but the sockets missing.

The proxy's own parts, wired as `Runtime` does it; the store commits nothing, and the upstream answers at once.
"""

import asyncio
import json
import math
import secrets
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import jwt

from proxy.audit.limits import Limits
from proxy.audit.store import Store
from proxy.audit.writer import AuditWriter
from proxy.auth.bearer import ServerAuth
from proxy.authorize import Policy
from proxy.door import Door
from proxy.edge import Listener
from proxy.edge.connection import Connection as ClientConnection
from proxy.executor import Executor
from proxy.guard.guard import Guard
from proxy.ids import execution_id
from proxy.pipeline import Pipeline
from proxy.roads import Road, limits_of
from proxy.routes import Route
from proxy.sessions.store import Sessions
from proxy.states import States
from proxy.upstream.connection import Connection as UpstreamConnection
from proxy.upstream.pool import UpstreamPool
from proxy.upstream.target import UpstreamLimits, UpstreamTarget
from registry.contracts.definitions import Pin, pinned
from registry.contracts.locked import ServerLock
from registry.models import Fleet
from registry.secrets import SecretReader
from tests.bench.message import MODERN, call
from tests.bench.stage import SCOPES, registry_of, section
from tests.bench.upstream import TOOL, answer_bytes
from tests.bench.wires import Wire, request_bytes

ISSUER = "https://issuer.test"
NAME = "fast"


class Setting:
    """One server's rules and one call of its tool, as the pieces of the proxy want them."""

    def __init__(self, folder: Path, body_bytes: int = 1024) -> None:
        secret = secrets.token_hex(32)
        (folder / "key").write_text(secret, encoding="utf-8")
        (folder / "key").chmod(0o600)
        self.fleet = _fleet()
        self.server = self.fleet.servers[NAME]
        self.secrets = SecretReader(folder, {})
        self.now = time.time()
        claims = {"iss": ISSUER, "aud": self.fleet.audience(self.server), "sub": "ada", "client_id": "cli"}
        claims |= {"scope": " ".join(SCOPES), "iat": int(self.now), "exp": int(self.now) + 3600}
        token = jwt.encode(claims, secret, algorithm="HS256", headers={"kid": "k1"})
        message = call(MODERN, body_bytes)
        given = {"host": "127.0.0.1:8080", **message.headers, "authorization": f"Bearer {token}"}
        self.headers = tuple((name.encode(), value.encode()) for name, value in given.items())
        self.body = message.body
        before, after = answer_bytes(body_bytes)
        self.answer = before + b"1" + after
        self.door = Door(self.fleet.public_url(), self.fleet.proxy)
        self.auth = ServerAuth.build(self.fleet, self.server, self.secrets)
        self.policy = Policy.build(self.fleet, self.server)
        self.guard = Guard(self.server, ServerLock({"tools": {"echo": Pin(pinned("tools", TOOL))}}))

    def route(self) -> Route:
        """Return the server as the pipeline meets it."""
        return Route(
            server=self.server,
            audience=self.fleet.audience(self.server),
            auth=self.auth,
            policy=self.policy,
            payload_bytes=self.fleet.audit.payload_bytes,
            stream_limits=replace(limits_of(self.server), total_s=None, idle_s=math.inf),
            guard=self.guard,
            states=States(bytes(32)),
        )


def _fleet() -> Fleet:
    made = section(5001, SCOPES)
    made["oauth"] |= {"issuer": ISSUER, "keys": [{"kid": "k1", "secret": "file:key"}]}
    document: dict[str, Any] = {"version": 1, "servers": {NAME: made | {"name": NAME}}, **registry_of({NAME: made}, {})}
    for name, agent in document["agents"].items():
        agent["name"] = name
    return Fleet.model_validate_json(json.dumps(document))


class Way:
    """`clients` connections to one worker; `governed` sends one call on each and returns when all are answered."""

    def __init__(self, setting: Setting, clients: int) -> None:
        loop = asyncio.get_running_loop()
        store = cast("Store", _NoStore())
        self._audit = AuditWriter(store, Limits(), None)
        self._audit._start()  # pyright: ignore[reportPrivateUsage] -- `open` wants a database
        self._pool = AnsweringPool(setting.answer, clients)
        road = cast("Road", _Road(self._pool))
        nowhere = cast("Any", None)
        sessions = Sessions(nowhere, time.monotonic, time.time)
        executor = Executor(self._audit, {NAME: road}, sessions, setting.fleet.audit)
        routes = {f"/{NAME}/mcp": setting.route()}
        pipeline = Pipeline(routes, setting.door, sessions, _Available(), executor)
        listener = Listener(pipeline.handle)
        self._request = request_bytes(setting.headers, setting.body)
        self._wires = [Wire() for _ in range(clients)]
        self._clients = [ClientConnection(loop, listener) for _ in range(clients)]
        for client, wire in zip(self._clients, self._wires, strict=True):
            client.connection_made(wire)

    async def governed(self, rounds: int) -> None:
        """Send and await; `rounds` times."""
        for _ in range(rounds):
            aim = [wire.answers + 1 for wire in self._wires]
            for client in self._clients:
                client.data_received(self._request)
            while any(  # noqa: ASYNC110 -- the turns of the loop are what is measured
                wire.answers < count for wire, count in zip(self._wires, aim, strict=True)
            ):
                await asyncio.sleep(0)

    async def aclose(self) -> None:
        """Close everything."""
        for wire in self._wires:
            wire.close()
        for client in self._clients:
            client.connection_lost(None)
        await self._pool.aclose()
        await self._audit.aclose()

    @property
    def last_answer(self) -> bytes:
        """The bytes that the last client got."""
        return self._wires[-1].last


class _Available:
    def why_not(self, server: str) -> str | None:
        return None

    def versions_of(self, server: str) -> tuple[str, ...]:
        return ()


class _NoStore:
    """Takes a batch and lets go of it, after one turn of the loop."""

    instance = "bench"
    dsn = ""
    writer_id = execution_id(datetime.now(UTC))

    async def append(self, tuples: bytearray) -> None:
        await asyncio.sleep(0)

    async def note(self, *_: object) -> None:
        """Forget it."""

    async def probe(self) -> None:
        """It is always there."""

    async def aclose(self) -> None:
        """Nothing is open."""


class _Road:
    """The road to a server that answers in the next turn of the loop."""

    def __init__(self, pool: UpstreamPool) -> None:
        self.pool = self.streams = pool

    def credentials(self, *_principal: object) -> tuple[()]:
        return ()


class AnsweringPool(UpstreamPool):
    """The pool as it is, whose connections are wires that answer each request with the same JSON body."""

    def __init__(self, answer: bytes, most: int) -> None:
        target = UpstreamTarget("http", "127.0.0.1", 5001, "/mcp")
        super().__init__(target, UpstreamLimits(max_connections=most))
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self._answer = head % len(answer) + answer

    async def _connect(self) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        connection = UpstreamConnection(loop, self)
        self._connections.add(connection)
        connection.connection_made(_AnsweringWire(loop, connection, self._answer))
        return connection


class _AnsweringWire(Wire):
    """A server that has the answer as soon as it has the request."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: UpstreamConnection, answer: bytes) -> None:
        super().__init__()
        self._loop = loop
        self._connection = connection
        self._answer = answer

    def write(self, data: Any) -> None:
        self._loop.call_soon(self._connection.data_received, self._answer)

    def abort(self) -> None:
        if self.is_open:
            self.close()
            self._loop.call_soon(self._connection.connection_lost, None)
