"""Intents of writers that died get their one row: `interrupted` (SPEC A3).

A writer is dead when nobody holds the lock on its id, and nobody has held it for a grace that is longer than a living
one needs to reconnect. Whoever then gets the lock closes its intents, once, and notes that the writer is closed.
"""

import asyncio
import json
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import asyncpg

from proxy.audit.chain import Head, genesis
from proxy.audit.errors import AuditConflict, AuditUnavailable
from proxy.audit.record import Outcome, Payload, Request, Row, Scopes, Status, Subject
from proxy.audit.store import Step, ensure_partitions, lock_key
from proxy.audit.writer import AuditWriter
from registry.database.driver import Connection, Record
from registry.database.errors import DatabaseUnavailable
from registry.database.pool import connection
from registry.database.queries import load

EVERY_S: Final = 10.0
GRACE_S: Final = 20.0
PAGE: Final = 500
DECISION: Final = "proxy.interrupted"
REASON: Final = "the proxy ended between the intent and its row; whether the server acted is not known"

_SQL = load("proxy.audit", "reconcile.sql")
_log = logging.getLogger("postern.audit")


class Reconciler:
    """Remembers since when each writer has had no lock. `now` is any steady clock, in seconds."""

    def __init__(self, writer: AuditWriter, grace_s: float = GRACE_S) -> None:
        self._writer = writer
        self._grace_s = grace_s
        self._dead_since: dict[UUID, float] = {}

    async def run(self, database: Connection, now: float) -> int:
        """Close what can be closed now; return how many rows were written."""
        found = await database.fetch(_SQL["unclosed_writers"])
        dead = [row for row in found if not row["is_alive"] and row["writer_id"] != self._writer.writer_id]
        self._dead_since = {row["writer_id"]: self._dead_since.get(row["writer_id"], now) for row in dead}
        due = [row for row in dead if now - self._dead_since[row["writer_id"]] >= self._grace_s]
        return sum([await _close(database, self._writer, row["writer_id"], row["instance"]) for row in due])

    def forget(self) -> None:
        """Start to wait anew: the database was away, so were the locks."""
        self._dead_since.clear()


async def close_interrupted(database: Connection, writer: AuditWriter) -> int:
    """Close the intents of every writer that has no lock now, without grace; return how many rows were written."""
    return await Reconciler(writer, grace_s=0).run(database, 0)


async def close_interrupted_forever(writer: AuditWriter, *, every_s: float = EVERY_S, step: Step = "month") -> None:
    """Reconcile and create partitions ahead, again and again; the errors of one turn are logged."""
    reconciler = Reconciler(writer)
    clock = asyncio.get_running_loop()
    while True:
        try:
            async with connection(writer.dsn, application_name="postern audit reconcile") as database:
                await ensure_partitions(database, datetime.now(UTC), step)
                if count := await reconciler.run(database, clock.time()):
                    _log.warning("%d interrupted requests of ended proxies were closed", count)
        except (DatabaseUnavailable, AuditUnavailable, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            reconciler.forget()
            _log.warning("interrupted requests cannot be closed now: %s", error)
        await asyncio.sleep(every_s)


async def _close(database: Connection, writer: AuditWriter, dead: UUID, instance: str) -> int:
    key = lock_key(dead)
    if not await database.fetchval(_SQL["try_lock"], key):
        return 0
    try:
        if await database.fetchval(_SQL["is_closed"], dead):
            return 0
        count = await _close_intents(database, writer, dead)
        head = await database.fetchrow(_SQL["head"], dead)
        last = Head(head["seq"], head["row_hash"]) if head is not None else genesis(dead)
        if writer.notary is not None and last.seq:
            await writer.notary.attest_dead(database, dead, instance, last)
        detail = {"by": str(writer.writer_id), "interrupted": count, "seq": last.seq, "hash": last.hash.hex()}
        await database.execute(_SQL["close"], dead, datetime.now(UTC), instance, json.dumps(detail))
        return count
    finally:
        if not database.is_closed():
            await database.execute(_SQL["unlock"], key)


async def _close_intents(database: Connection, writer: AuditWriter, dead: UUID) -> int:
    count, after = 0, 0
    while page := await database.fetch(_SQL["open_intents"], dead, after, PAGE):
        after = page[-1]["seq"]
        count += await _write_all(writer, [interrupted_row(intent, datetime.now(UTC)) for intent in page])
    return count


async def _write_all(writer: AuditWriter, rows: Iterable[Row]) -> int:
    results = await asyncio.gather(*(writer.write_row(row) for row in rows), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, AuditConflict):
            raise result
    return sum(result is None for result in results)


def interrupted_row(intent: Record, now: datetime) -> Row:
    """Return the row of a request whose proxy ended; `intent` is a row of audit_intents."""
    request = request_of(intent)
    passed = max(now - request.started, now - now)
    outcome = Outcome(Status.INTERRUPTED, DECISION, REASON, 503, now, round(passed.total_seconds() * 1_000_000))
    return Row(request, outcome)


def request_of(stored: Record) -> Request:
    """Return the request of a stored intent or row."""
    payload = None
    if stored["input_sha256"] is not None:
        payload = Payload(stored["input"], stored["input_bytes"], stored["input_sha256"])
    who = ("auth_method", "issuer", "subject", "client", "agent", "asserted_by")
    return Request(
        execution_id=UUID(int=stored["execution_id"].int),
        server=stored["server"],
        started=stored["started_at"],
        http_method=stored["http_method"],
        method=stored["method"],
        tool=stored["tool"],
        subject=Subject(*(stored[name] for name in who)),
        audience=stored["audience"],
        scopes=Scopes(*(tuple(stored[f"scopes_{name}"]) for name in ("required", "held", "matched"))),
        session=stored["session"],
        protocol_version=stored["protocol_version"],
        trace_id=stored["trace_id"],
        remote=stored["remote"],
        input=payload,
    )
