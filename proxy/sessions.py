"""Legacy sessions: an id of ours, bound to server, issuer, subject and client, kept in PostgreSQL (SPEC S2–S4).

A session is never authentication. Another principal's or server's id is answered exactly like an unknown one.
"""

import json
import math
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import asyncpg

from proxy import errors
from proxy.auth.identity import Authenticated, Identity
from proxy.errors import Refusal
from registry.database import queries
from registry.database.driver import Pool
from registry.models import Server

SESSION_HEADER = b"mcp-session-id"
CHANNEL = "postern_sessions"
_REMEMBERED = 10_000
_TRUSTED_S = 30.0
_MAX_ID_CHARS = 128
DATABASE_AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)

UNKNOWN = Refusal("session.unknown", 404, errors.SESSION_UNKNOWN, "unknown session: initialize again without an id")
MISSING = Refusal("session.missing", 400, errors.INVALID_REQUEST, "the Mcp-Session-Id header is missing")


class SessionStoreUnavailableError(Exception):
    """PostgreSQL did not keep or find a session."""


@dataclass(frozen=True, slots=True)
class Session:
    """An open session. `initialize` holds the client's parameters, from which a lost upstream session is rebuilt."""

    id: str
    server: str
    owner: tuple[str, str, str]
    upstream_id: str | None
    protocol_version: str
    initialize: dict[str, object]
    generation: int = 0


class Sessions:
    """Finds and keeps sessions; remembers the recent ones until PostgreSQL says that they changed."""

    def __init__(self, pool: Pool, clock: Callable[[], float]) -> None:
        self._pool = pool
        self._clock = clock
        self._sql = queries.load("proxy", "sessions.sql")
        self._known: OrderedDict[str, tuple[Session, float]] = OrderedDict()
        self._active: set[str] = set()

    async def find(self, session_id: str, server: Server, identity: Identity) -> Session | None:
        """Return the caller's open session on this server, or None."""
        if len(session_id) > _MAX_ID_CHARS:
            return None
        loaded, at = self._known.get(session_id, (None, -math.inf))
        if at < self._clock() - min(_TRUSTED_S, server.sessions.idle_s):
            loaded = await self._load(session_id, server)
        if loaded is None or loaded.server != server.name or loaded.owner != owner_of(identity):
            return None
        self._active.add(session_id)
        return loaded

    async def reload(self, session: Session) -> Session | None:
        """Return the session as PostgreSQL knows it now; another replica may have rebuilt or closed it."""
        row = await self._ask("find_session", session.id, None)
        return _session_of(row) if row is not None else None

    async def rebind(self, session: Session, upstream_id: str) -> Session:
        """Bind the session to a new upstream one; whoever comes second gets the first one's binding."""
        row = await self._ask("rebind_session", session.id, upstream_id, session.generation)
        if row is None:
            raise SessionStoreUnavailableError("the session was closed while it was rebuilt")
        bound = replace(session, upstream_id=row["upstream_id"], generation=row["generation"])
        self._remember(bound)
        return bound

    async def _ask(self, statement: str, *arguments: object) -> Any:
        try:
            return await self._pool.fetchrow(self._sql[statement], *arguments)
        except DATABASE_AWAY as error:
            raise SessionStoreUnavailableError(f"sessions cannot be read or kept: {error}") from error

    async def _load(self, session_id: str, server: Server) -> Session | None:
        row = await self._ask("find_session", session_id, server.sessions.idle_s)
        if row is None:
            self.forget(session_id)
            return None
        session = _session_of(row)
        self._remember(session)
        return session

    async def create(
        self, server: Server, identity: Identity, upstream_id: str, version: str, initialize: dict[str, object]
    ) -> Session:
        """Keep a new session; durable on return."""
        session = Session(secrets.token_urlsafe(24), server.name, owner_of(identity), upstream_id, version, initialize)
        kept = (upstream_id, version, json.dumps(initialize), server.sessions.absolute_s)
        await self._ask("create_session", session.id, server.name, *session.owner, *kept)
        self._remember(session)
        return session

    async def end(self, session: Session, status: str = "closed") -> None:
        """Close a session; from now on its id is unknown."""
        self.forget(session.id)
        await self._ask("end_session", session.id, status)

    def forget(self, session_id: str) -> None:
        """Look it up again the next time: it changed."""
        self._known.pop(session_id, None)

    def forget_all(self) -> None:
        """Notifications may have been missed."""
        self._known.clear()

    async def write_activity(self) -> None:
        """Write the gathered activity in one statement; call it every few seconds."""
        active, self._active = self._active, set()
        if active:
            await self._pool.execute(self._sql["touch_sessions"], list(active))

    def _remember(self, session: Session) -> None:
        self._known[session.id] = (session, self._clock())
        self._known.move_to_end(session.id)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


def owner_of(identity: Identity) -> tuple[str, str, str]:
    """Issuer, subject and client; all empty for anonymous callers."""
    if isinstance(identity, Authenticated):
        return (identity.issuer, identity.subject, identity.client or "")
    return ("", "", "")


def _session_of(row: Any) -> Session:
    return Session(
        id=row["id"],
        server=row["server"],
        owner=(row["issuer"], row["subject"], row["client"]),
        upstream_id=row["upstream_id"],
        protocol_version=row["protocol_version"],
        initialize=json.loads(row["initialize"]),
        generation=row["generation"],
    )
