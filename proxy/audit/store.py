"""The writer's one connection: durable commits, a lock on the writer's id, and a definite answer after a cut."""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final, Literal, cast
from uuid import UUID

import asyncpg

from proxy.audit.appending import Appending, SwallowedError
from proxy.audit.chain import Head, Link
from proxy.audit.errors import AuditStoreError
from registry.database.driver import Connection, Queryable
from registry.database.errors import DatabaseUnavailable
from registry.database.pool import connect
from registry.database.queries import load

Step = Literal["day", "month"]

CONNECT_TIMEOUT_S: Final = 5.0
LOCK_WAIT_S: Final = 5.0
UNIQUE_VIOLATION: Final = "23505"
AHEAD: Final[dict[Step, timedelta]] = {"day": timedelta(days=7), "month": timedelta(days=62)}

_SQL = load("proxy.audit", "store.sql")
_WEAK: Final = frozenset({"off", "local", "remote_write"})
_DATA_CLASSES: Final = frozenset({"22", "23", "54"})  # the entry's own fault: bad data, a constraint, a limit
_LOST: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

_log = logging.getLogger("postern.audit")


class StoreLostError(Exception):
    """The commit's outcome is unknown, or nothing can be committed now."""


class EntryRefusedError(Exception):
    """PostgreSQL refuses this data; nothing of the batch is stored."""

    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate
        super().__init__(f"SQLSTATE {sqlstate}")


def lock_key(writer_id: UUID) -> int:
    """Return the advisory lock that a living writer holds: the random half of its id."""
    return int.from_bytes(writer_id.bytes[8:], "big", signed=True)


def with_writable_host(dsn: str) -> str:
    """Of several hosts the one that takes writes is meant; a DSN that says otherwise is left alone."""
    if "target_session_attrs=" in dsn:
        return dsn
    return f"{dsn}{'&' if '?' in dsn else '?'}target_session_attrs=read-write"


class Store:
    """Appends batches. A lost connection is not reused: `open` makes a new one."""

    def __init__(self, dsn: str, writer_id: UUID, instance: str, commit_timeout_s: float) -> None:
        self.dsn = with_writable_host(dsn)
        self.writer_id = writer_id
        self.instance = instance
        self._timeout_s = commit_timeout_s
        self._connection: Connection | None = None
        self._appending: Appending | None = None
        self._last_pid = 0

    async def open(self) -> None:
        """Connect, and hold the lock: from then on no earlier session of this writer can still commit anything.

        Raises StoreLostError, or AuditStoreError where waiting will not help.
        """
        self.drop()
        try:
            made = await connect(
                self.dsn, timeout_s=CONNECT_TIMEOUT_S, application_name="postern audit", settings=self._settings()
            )
        except DatabaseUnavailable as error:
            raise StoreLostError(str(error)) from error
        self._connection = made
        try:
            async with asyncio.timeout(LOCK_WAIT_S):
                await self._make_durable(made)
                await self._lock(made)
                self._appending = await Appending.on(made)
        except _LOST as error:
            self.drop()
            raise StoreLostError(f"the session cannot be set up: {error!r}") from error
        except BaseException:
            self.drop()
            raise
        self._last_pid = made.get_server_pid()

    async def append(self, links: Sequence[Link]) -> None:
        """Commit links, all or none. Raises StoreLostError (outcome unknown) or EntryRefusedError (nothing stored)."""
        connection, appending = self._live(), self._appending
        if appending is None:
            raise StoreLostError("the connection was lost")
        try:
            await appending.append(links, self._timeout_s)
        except asyncpg.PostgresError as error:
            sqlstate = str(cast("Any", error).sqlstate)
            if sqlstate[:2] in _DATA_CLASSES and not connection.is_closed():
                raise EntryRefusedError(sqlstate) from error
            self.drop()
            raise StoreLostError(str(error)) from error
        except SwallowedError as error:
            self.drop()
            raise StoreLostError(str(error)) from error
        except _LOST as error:
            self.drop()
            raise StoreLostError(f"the connection was lost: {error!r}") from error

    async def head(self) -> Head | None:
        """Return the last entry that the database has of this writer."""
        row = await self._guard(self._live().fetchrow(_SQL["head"], self.writer_id, timeout=self._timeout_s))
        return None if row is None else Head(row["seq"], row["row_hash"])

    async def is_closed(self) -> bool:
        """Say whether a reconciler took this writer for dead."""
        return bool(await self._guard(self._live().fetchval(_SQL["is_closed"], self.writer_id)))

    async def probe(self) -> None:
        """Return when the database has answered; raise StoreLostError."""
        await self._guard(self._live().fetchval(_SQL["probe"], timeout=self._timeout_s))

    async def note(self, event: str, at: datetime, detail: Mapping[str, object]) -> None:
        """Record an event of the writer's life."""
        values = (self.writer_id, event, at, self.instance, json.dumps(detail))
        await self._guard(self._live().execute(_SQL["note"], *values, timeout=self._timeout_s))

    async def record_checkpoint(self, *values: object) -> None:
        """Insert a row of audit_checkpoints."""
        await self._guard(record_checkpoint(self._live(), *values))

    async def ensure_partitions(self, now: datetime, step: Step) -> None:
        """Create what is missing ahead of now; the default partition serves until the next try."""
        await ensure_partitions(self._live(), now, step)

    async def aclose(self) -> None:
        if self._connection is not None:
            with suppress(*_LOST):
                await self._connection.close(timeout=2)
            self.drop()

    def drop(self) -> None:
        """Cut the connection, if there is one."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = self._appending = None

    def _live(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            raise StoreLostError("the connection was lost")
        return self._connection

    def _settings(self) -> dict[str, str]:
        limit = f"{round(self._timeout_s * 1000)}ms"
        return {"statement_timeout": limit, "lock_timeout": limit, "idle_session_timeout": "0"}

    async def _make_durable(self, connection: Connection) -> None:
        row = cast("Mapping[str, Any]", await connection.fetchrow(_SQL["settings"]))
        if not row["migrated"]:
            raise AuditStoreError("the database has no audit tables: run `postern migrate`")
        if row["server_encoding"] != "UTF8":
            raise AuditStoreError(f"the database's encoding is {row['server_encoding']}, it must be UTF8")
        if row["synchronous_commit"] in _WEAK:
            await connection.execute(_SQL["enforce_durability"])
        if row["fsync"] == "off":
            _log.warning("PostgreSQL runs with fsync=off: audit rows do not survive a power failure")

    async def _lock(self, connection: Connection) -> None:
        """Take the lock; end our own earlier session if it still has it."""
        key = lock_key(self.writer_id)
        while not await connection.fetchval(_SQL["try_lock"], key):
            if self._last_pid:
                await connection.execute(_SQL["end_holder"], key, self._last_pid)
            await asyncio.sleep(0.02)

    async def _guard(self, statement: Any) -> Any:
        try:
            return await statement
        except _LOST as error:
            self.drop()
            raise StoreLostError(_words(error)) from error


def _words(error: BaseException) -> str:
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return f"{error}: the proxy needs the rights of the role postern_proxy"
    return repr(error)


async def record_checkpoint(database: Queryable, *values: object) -> None:
    """Insert a row of audit_checkpoints."""
    await database.execute(_SQL["record_checkpoint"], *values)


async def last_statement(database: Queryable, writer_id: UUID) -> str | None:
    """Return the newest signed statement about a writer."""
    return await database.fetchval(_SQL["last_statement"], writer_id)


async def ensure_partitions(connection: Queryable, now: datetime, step: Step) -> None:
    """Create the partitions ahead of `now`; a table that is locked is left for the next time."""
    try:
        await connection.execute(_SQL["ensure_partitions"], now, now + AHEAD[step], step)
    except asyncpg.PostgresError as error:
        _log.warning("audit partitions cannot be created ahead now: %s", error)
