"""Legacy sessions: an id of ours, bound to server, issuer, subject and client, kept in PostgreSQL (SPEC S2–S4).

A session is never authentication. Another principal's or server's id is answered exactly like an unknown one.
"""

import asyncio
import json
import math
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from sys import intern
from typing import Any
from uuid import UUID

import asyncpg

from proxy.auth.identity import Authenticated, Identity
from proxy.tasks.store import Tasks
from registry.database import queries
from registry.database.driver import Pool, Record
from registry.models import Server

SESSION_HEADER = b"mcp-session-id"
CHANNEL = "postern_sessions"
DATABASE_AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)

_REMEMBERED = 131_072
"""About 90 MB of a worker, where so many sessions are in use."""
_SILENCE_S = 10.0
_REREAD_S = 300.0
_PATIENCE_S = 5.0
_MAX_ID_CHARS = 128
_MAX_INITIALIZE_BYTES = 65_536

RpcId = int | str


class SessionStoreUnavailableError(Exception):
    """PostgreSQL did not keep or find a session."""


@dataclass(frozen=True, slots=True)
class Session:
    """An open session. `expires`: seconds since the epoch; `event_key` signs the event ids that its client sees."""

    id: str
    server: str
    owner: tuple[str, str, str]
    upstream_id: str | None
    protocol_version: str
    event_key: bytes = field(repr=False)
    expires: float
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Memory:
    """From what a lost upstream session is made again; `initialize` is None where it was too large to keep."""

    initialize: dict[str, object] | None
    log_level: str | None
    subscriptions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """A session that is over and whose server has not been told yet."""

    id: str
    server: str
    owner: tuple[str, str, str]
    upstream_id: str
    protocol_version: str


class Sessions:
    """Finds and keeps sessions; remembers the recent ones until PostgreSQL says that they changed.

    What is remembered counts for as long as the notifications are known to arrive (`heard`), and for half an idle
    timeout or five minutes at most. `clock` is a steady clock, `wall` tells the seconds since the epoch. `tasks` are
    kept beside them, in both eras.
    """

    def __init__(self, pool: Pool, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self._pool = pool
        self._clock = clock
        self._wall = wall
        self._sql = queries.load("proxy.sessions", "store.sql")
        self._known: OrderedDict[str, tuple[Session, float]] = OrderedDict()
        self._heard = -math.inf
        self._changes = 0
        self._active: set[str] = set()
        self.tasks = Tasks(self._run)

    async def find(self, session_id: str, server: Server, identity: Identity) -> Session | None:
        """Return the caller's open session on this server, or None."""
        if len(session_id) > _MAX_ID_CHARS or not session_id.isascii() or not session_id.isprintable():
            return None
        found, at = self._known.get(session_id, _UNKNOWN)
        now = self._clock()
        if at < now - min(_REREAD_S, server.sessions.idle_s / 2) or self._heard < now - _SILENCE_S:
            found = await self._load(session_id)
        if found is None or found.server != server.name or found.owner != owner_of(identity):
            return None
        if found.expires <= self._wall():
            return None
        self._active.add(session_id)
        return found

    async def reload(self, session: Session) -> Session | None:
        """Return the session as PostgreSQL knows it now; another replica may have rebuilt or closed it."""
        return await self._load(session.id)

    async def create(
        self, server: Server, identity: Identity, upstream_id: str, version: str, initialize: dict[str, object]
    ) -> Session:
        """Keep a new session; durable on return."""
        kept, changes = json.dumps(initialize, separators=(",", ":")), self._changes
        session = Session(
            id=secrets.token_urlsafe(24),
            server=server.name,
            owner=owner_of(identity),
            upstream_id=upstream_id,
            protocol_version=version,
            event_key=secrets.token_bytes(32),
            expires=math.inf,
        )
        row = await self._ask(
            "create_session",
            session.id,
            server.name,
            *session.owner,
            upstream_id,
            version,
            kept if len(kept) <= _MAX_INITIALIZE_BYTES else None,
            session.event_key,
            server.sessions.idle_s,
            server.sessions.absolute_s,
        )
        session = replace(session, expires=row["expires"] if row is not None else math.inf)
        self._remember(session, changes)
        return session

    async def end(self, session: Session, status: str = "closed") -> None:
        """End a session whose server knows that it is over; from now on its id is unknown."""
        self.forget(session.id)
        await self._run("end_session", session.id, status)

    # --- what a lost upstream session is made of

    async def memory(self, session: Session) -> Memory | None:
        """Return what rebuilds the session; None if it is not open any more."""
        row = await self._ask("find_memory", session.id)
        if row is None:
            return None
        initialize = json.loads(row["initialize"]) if row["initialize"] is not None else None
        return Memory(initialize, row["log_level"], tuple(row["subscriptions"]))

    async def remember(self, session: Session, method: str, value: str) -> None:
        """Keep what a client asked its server to remember for the session."""
        await self._run(_REMEMBERED_BY[method], session.id, value)

    async def claim_rebuild(self, session: Session, lease_s: float) -> bool:
        """Take the right to rebuild for `lease_s`; False while another replica has it."""
        return await self._ask("claim_rebuild", session.id, session.generation, lease_s) is not None

    async def release_rebuild(self, session: Session) -> None:
        """Give that right back."""
        await self._run("release_rebuild", session.id, session.generation)

    async def rebind(self, session: Session, upstream_id: str) -> Session:
        """Bind the session to a new upstream one; whoever comes second gets the first one's binding."""
        changes = self._changes
        row = await self._ask("rebind_session", session.id, upstream_id, session.generation)
        if row is None:
            raise SessionStoreUnavailableError("the session was closed while it was rebuilt")
        bound = replace(session, upstream_id=row["upstream_id"], generation=row["generation"])
        self._remember(bound, changes)
        return bound

    # --- questions of the server

    async def note_question(self, session: Session, rpc_id: RpcId) -> bool:
        """Remember that the server asks the client; False if it has too many open questions."""
        return await self._ask("note_question", session.id, json.dumps(rpc_id)) is not None

    async def is_asked(self, session: Session, rpc_id: RpcId) -> bool:
        """Whether the server has asked this and nobody has answered."""
        return await self._ask("find_question", session.id, json.dumps(rpc_id)) is not None

    async def forget_question(self, session: Session, rpc_id: RpcId) -> None:
        """The server has got its answer."""
        await self._run("forget_question", session.id, json.dumps(rpc_id))

    # --- other replicas, other workers

    async def let_go(self, session: Session, execution: UUID, by: UUID) -> None:
        """Tell whoever works on an execution that its stream has been resumed by another one."""
        await self._run("let_go", session.id, str(execution), str(by))

    def heard(self, at: float) -> None:
        """Every change before that time of the steady clock has been told."""
        self._heard = at

    def forget(self, session_id: str) -> None:
        """Look it up again the next time: it changed."""
        self._changes += 1
        self._known.pop(session_id, None)

    def forget_all(self) -> None:
        """Notifications may have been missed."""
        self._changes += 1
        self._known.clear()

    # --- housekeeping; these raise one of DATABASE_AWAY

    async def touch(self, in_use: Sequence[str]) -> list[str]:
        """Write the activity gathered so far and that of `in_use`; return which of these are still open."""
        active, self._active = self._active | set(in_use), set()
        if not active:
            return []
        try:
            rows = await self._fetch("touch_sessions", list(active))
        except DATABASE_AWAY:
            self._active |= active
            raise
        still_open = {row["id"] for row in rows}
        return [session_id for session_id in in_use if session_id in still_open]

    async def status_of(self, session_id: str) -> str:
        """Return the status of a session; one that is not there any more is closed."""
        rows = await self._fetch("find_status", session_id)
        return rows[0]["status"] if rows else "closed"

    async def expire(self, limit: int) -> int:
        """Mark sessions whose time is over; return how many."""
        return await self._count("expire_sessions", limit)

    async def take_ended(self, servers: Sequence[str], limit: int) -> list[Ended]:
        """Return ended sessions whose servers are still to be told; each is returned to one caller, once."""
        rows = await self._fetch("take_ended", list(servers), limit)
        return [_ended_of(row) for row in rows]

    async def delete_ended(self, kept_s: float, limit: int) -> None:
        """Delete sessions that ended longer ago, and tasks that no server keeps any more."""
        while await self._count("delete_ended", kept_s, limit) == limit:
            continue
        while await self._count("delete_tasks", limit) == limit:
            continue

    async def _load(self, session_id: str) -> Session | None:
        changes = self._changes
        row = await self._ask("find_session", session_id)
        if row is None:
            self._known.pop(session_id, None)
            return None
        session = _session_of(row)
        self._remember(session, changes)
        return session

    def _remember(self, session: Session, changes: int) -> None:
        """Keep what was read, unless it changed while it was on its way: `changes` were counted before it was asked."""
        if changes != self._changes:
            self._known.pop(session.id, None)
            return
        self._known[session.id] = (session, self._clock())
        self._known.move_to_end(session.id)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    async def _ask(self, statement: str, *arguments: object) -> Record | None:
        rows = await self._run(statement, *arguments)
        return rows[0] if rows else None

    async def _run(self, statement: str, *arguments: object) -> list[Record]:
        try:
            return await self._fetch(statement, *arguments)
        except DATABASE_AWAY as error:
            raise SessionStoreUnavailableError(f"sessions cannot be read or kept: {error}") from error

    async def _fetch(self, statement: str, *arguments: object) -> list[Record]:
        return await self._within_patience(self._pool.fetch(self._sql[statement], *arguments))

    async def _count(self, statement: str, *arguments: object) -> int:
        """Execute a statement and return how many rows it changed."""
        status: str = await self._within_patience(self._pool.execute(self._sql[statement], *arguments))
        return int(status.rsplit(" ", 1)[-1])

    async def _within_patience(self, work: Any) -> Any:
        async with asyncio.timeout(_PATIENCE_S):
            return await work


_UNKNOWN = (None, -math.inf)
_REMEMBERED_BY = {
    "logging/setLevel": "remember_log_level",
    "resources/subscribe": "remember_subscription",
    "resources/unsubscribe": "forget_subscription",
}


def owner_of(identity: Identity) -> tuple[str, str, str]:
    """Issuer, subject and client; all empty for anonymous callers."""
    if isinstance(identity, Authenticated):
        return (identity.issuer, identity.subject, identity.client or "")
    return ("", "", "")


def _session_of(row: Record) -> Session:
    return Session(
        id=row["id"],
        server=intern(row["server"]),
        owner=(intern(row["issuer"]), intern(row["subject"]), intern(row["client"])),
        upstream_id=row["upstream_id"],
        protocol_version=intern(row["protocol_version"]),
        event_key=row["event_key"],
        expires=row["expires"],
        generation=row["generation"],
    )


def _ended_of(row: Any) -> Ended:
    owner = (row["issuer"], row["subject"], row["client"])
    return Ended(row["id"], row["server"], owner, row["upstream_id"], row["protocol_version"])
