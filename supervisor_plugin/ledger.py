"""The fleet's rows in PostgreSQL: written in order, kept in memory while the database is away, locked per server.

One connection does it all, because its session holds the locks: whoever holds a server's lock on this host is the one
who starts and stops it.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import asyncpg

from registry.database.driver import Connection, Record
from registry.database.errors import DatabaseError, MigrationError
from registry.database.migrations import pending
from registry.database.pool import connect
from registry.database.queries import load
from supervisor_plugin.processes import Identity
from supervisor_plugin.reconcile import Recorded
from supervisor_plugin.settings import SettingsError

STATEMENT_S = 5.0
RETRY_S, MAX_RETRY_S = 0.2, 3.0
MAX_WAITING = 10_000
FOREIGN_RETRY_S = 1.0
KEEP_HISTORY_DAYS = 90

_log = logging.getLogger("postern.ledger")
LOST = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, DatabaseError, SettingsError)


class LedgerAwayError(Exception):
    """The database cannot be asked now; the text says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One server's row, as table `services` has it."""

    server: str
    type: str
    status: str
    health: str
    can_route: bool
    reason: str | None
    process: Identity | None
    port: int | None
    binary: str | None
    failures: int
    restarts: int
    tool_count: int | None
    protocol_versions: tuple[str, ...]
    latency_ms: float | None
    since: datetime
    down_since: datetime | None
    started_at: datetime | None
    checked_at: datetime | None
    updated_at: datetime

    def says_the_same(self, other: "Row") -> bool:
        """Whether only measurements differ, so that history loses nothing if one of them is never written."""
        return (self.status, self.health, self.can_route, self.reason, self.process, self.port) == (
            other.status,
            other.health,
            other.can_route,
            other.reason,
            other.process,
            other.port,
        )


@dataclass(frozen=True, slots=True)
class Forget:
    """The end of a row."""

    server: str


class Ledger:
    """`run` must run for anything to be written; every other method asks at once or raises LedgerAwayError."""

    def __init__(self, dsn: Callable[[], str], host: str, instance: str, boot_id: str) -> None:
        self._dsn, self._host, self._instance, self._boot_id = dsn, host, instance, boot_id
        self._sql = load("supervisor_plugin", "services.sql")
        self._waiting: dict[int, Row | Forget] = {}  # in the order in which it is written
        self._latest: dict[str, int] = {}
        self._foreign: dict[str, Row] = {}  # what cannot be written, because somebody else has the server's lock
        self._number = 0
        self._changed, self._written = asyncio.Event(), asyncio.Event()
        self._connected = asyncio.Event()
        self._turn = asyncio.Lock()
        self._connection: Connection | None = None
        self._locked: set[str] = set()
        self.trouble = "not connected yet"
        self.when_connected: Callable[[], None] = lambda: None

    @property
    def is_connected(self) -> bool:
        return self._connected.is_set()

    def record(self, row: Row) -> None:
        """Write a row soon. A row that only measures again replaces its predecessor if that still waits."""
        latest = self._latest.get(row.server, -1)
        waiting = self._waiting.get(latest)
        if isinstance(waiting, Row) and waiting.says_the_same(row):
            self._waiting[latest] = replace(row, updated_at=waiting.updated_at)
            self._changed.set()
        else:
            self._append(row)

    def forget(self, server: str) -> None:
        """Delete a row soon."""
        self._append(Forget(server))

    def _append(self, entry: Row | Forget) -> None:
        self._number += 1
        self._waiting[self._number] = entry
        self._latest[entry.server] = self._number
        if len(self._waiting) > MAX_WAITING:
            del self._waiting[next(iter(self._waiting))]
        self._changed.set()

    async def run(self) -> None:
        """Connect, write what waits, connect again when the database went away; until cancelled."""
        delay = RETRY_S
        try:
            while True:
                try:
                    await self._open()
                    delay = RETRY_S
                    await self._write_all()
                except LOST as error:
                    self._lose(error)
                await asyncio.sleep(delay)
                delay = min(MAX_RETRY_S, delay * 2)
        finally:
            self._lose(ConnectionAbortedError("closed by us"))

    async def wait_until_connected(self, timeout_s: float) -> None:
        """Return when the database answers; raise LedgerAwayError when it does not within the limit."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._connected.wait()
        except TimeoutError as error:
            raise LedgerAwayError(self.trouble) from error

    async def flush(self, timeout_s: float) -> bool:
        """Wait until everything is written; False if it is not within the limit."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._waiting:
                    self._written.clear()
                    await self._written.wait()
        except TimeoutError:
            return False
        return True

    # Locks

    async def lock(self, server: str) -> str | None:
        """Take the server's lock for this host, for good. Return None, or who has it."""
        if server in self._locked:
            return None
        if await self._ask("fetchval", "lock", self._host, server):
            self._locked.add(server)
            return None
        owner = await self._ask("fetchval", "owner", self._host, server)
        return str(owner or "unknown")

    # Questions

    async def recorded(self) -> dict[str, Recorded]:
        """Return what this host's rows say, but for those of another fleet that lives."""
        rows = [_recorded(row) for row in await self._fetch("recorded", self._host)]
        return {row.name: row for row in rows if row.instance == self._instance or await self.lock(row.name) is None}

    async def sessions(self) -> dict[str, int]:
        """Count open sessions by server."""
        return {row["server"]: row["open"] for row in await self._fetch("sessions")}

    async def calls(self, horizon_s: float) -> dict[str, int]:
        """Count calls in flight by server: intents without their row, no older than the horizon."""
        return {row["server"]: row["open"] for row in await self._fetch("calls", horizon_s)}

    async def drift(self) -> dict[str, str]:
        """Say by server what is not as pinned, as the proxies have found it (docs/contracts.md)."""
        rows = await self._fetch("drift")
        return {row["server"]: f"{'withheld' if row['is_withheld'] else 'drift'}: {row['detail']}" for row in rows}

    async def history(self, server: str, limit: int) -> list[dict[str, Any]]:
        """Return the last events of a server, oldest first."""
        rows = await self._fetch("history", self._host, server, limit)
        return [{**dict(row.items()), "at": row["at"].timestamp()} for row in reversed(rows)]

    async def downtime(self, span_s: float) -> dict[str, dict[str, float]]:
        """Return seconds observed, down and stopped, and the number of outages, by server."""
        return {row["server"]: dict(row.items()) for row in await self._fetch("downtime", self._host, span_s)}

    async def _fetch(self, name: str, *arguments: Any) -> list[Record]:
        return await self._ask("fetch", name, *arguments)

    async def _ask(self, method: str, name: str, *arguments: Any) -> Any:
        connection = self._connection
        if connection is None:
            raise LedgerAwayError(self.trouble)
        try:
            async with self._turn:
                return await getattr(connection, method)(self._sql[name], *arguments, timeout=STATEMENT_S)
        except LOST as error:
            raise LedgerAwayError(f"PostgreSQL: {_words(error)}") from error

    # The connection

    async def _open(self) -> None:
        dsn = self._dsn()
        if missing := await pending(dsn):
            raise MigrationError(f"the database lacks {', '.join(missing)}: bring it up to date with `postern migrate`")
        connection = await connect(dsn, timeout_s=STATEMENT_S, application_name="postern fleet")
        try:
            for server in sorted(self._locked):
                if not await connection.fetchval(self._sql["lock"], self._host, server, timeout=STATEMENT_S):
                    _log.error("the lock of %s on %s was taken while the database was away", server, self._host)
                    self._locked.discard(server)
            await connection.execute(self._sql["prune"], self._host, KEEP_HISTORY_DAYS, timeout=STATEMENT_S)
        except LOST:
            connection.terminate()
            raise
        connection.add_termination_listener(lambda _connection: self._changed.set())
        self._connection, self.trouble = connection, ""
        self._connected.set()
        self.when_connected()

    async def _write_all(self) -> None:
        while self._connection is not None and not self._connection.is_closed():
            self._changed.clear()
            while self._waiting:
                number, entry = next(iter(self._waiting.items()))
                async with self._turn:
                    await self._write_one(self._connection, entry)
                # While it was written a newer measurement may have replaced it.
                if self._waiting.get(number) is entry:
                    del self._waiting[number]
                self._written.set()
            await self._wait_for_work()
        raise ConnectionResetError("the database closed the connection")

    async def _wait_for_work(self) -> None:
        try:
            async with asyncio.timeout(FOREIGN_RETRY_S if self._foreign else None):
                await self._changed.wait()
        except TimeoutError:
            foreign, self._foreign = self._foreign, {}
            for row in foreign.values():
                self.record(row)

    async def _write_one(self, connection: Connection, entry: Row | Forget) -> None:
        """Write what is ours to write: whoever has a server's lock has its row."""
        self._foreign.pop(entry.server, None)
        if entry.server not in self._locked:
            if not await connection.fetchval(self._sql["lock"], self._host, entry.server, timeout=STATEMENT_S):
                if isinstance(entry, Row):
                    self._foreign[entry.server] = entry
                return
            self._locked.add(entry.server)
        try:
            await self._write(connection, entry)
        except (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError):
            # Trying it again would keep every later row from being written.
            _log.exception("the row of %s is refused by the database and lost", entry.server)

    async def _write(self, connection: Connection, entry: Row | Forget) -> None:
        if isinstance(entry, Forget):
            await connection.execute(self._sql["forget"], self._host, entry.server, timeout=STATEMENT_S)
            await connection.execute(self._sql["unlock"], self._host, entry.server, timeout=STATEMENT_S)
            self._locked.discard(entry.server)
            return
        process = entry.process
        place = (process.pid, process.ticks, self._boot_id) if process else (None, None, None)
        await connection.execute(
            self._sql["write"], self._host, entry.server, self._instance, entry.type, entry.status, entry.health,
            entry.can_route, entry.reason, *place, entry.port, entry.binary, entry.failures, entry.restarts,
            entry.tool_count, list(entry.protocol_versions), entry.latency_ms, entry.since, entry.down_since,
            entry.started_at, entry.checked_at, entry.updated_at, timeout=STATEMENT_S,
        )  # fmt: skip

    def _lose(self, error: BaseException) -> None:
        self.trouble = _words(error)
        self._connected.clear()
        connection, self._connection = self._connection, None
        if connection is not None:
            _log.warning("PostgreSQL is away: %s", self.trouble)
            connection.terminate()


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"it does not answer within {STATEMENT_S:g} s"
    return str(error) or type(error).__name__


def _recorded(row: Record) -> Recorded:
    process = None if row["pid"] is None else Identity(row["pid"], row["pid_start_ticks"])
    seen_at = row["updated_at"].timestamp()
    return Recorded(
        row["server"], row["status"], process, row["boot_id"], row["instance"], row["binary_identity"], seen_at
    )
