"""Group commit: whatever was queued while the last commit ran is the next one, without a timer (SPEC A3, A4, A7).

write_* ─▶ line ─▶ flusher: link into the chain ─▶ one COPY, one commit ─▶ release every waiter

A cut in the middle of a commit leaves its outcome unknown. The flusher then reconnects, which is possible only when the
old session is gone for good (it held the lock on the writer's id), and asks whether the batch is there. Until then
intents fail at once; rows of what was forwarded wait, up to `patience_s`, and are owed after that.
"""

import asyncio
import dataclasses
import logging
import os
import random
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal
from uuid import UUID

from proxy.audit.canonical import Encoder
from proxy.audit.chain import COPY_HEADER, COPY_TRAILER, FORMAT, Head, Links, genesis
from proxy.audit.entry import Entry, encode_entry, minimal, owed
from proxy.audit.errors import AuditConflict, AuditUnavailable
from proxy.audit.limits import Counters, Limits
from proxy.audit.line import Line
from proxy.audit.notary import Notary
from proxy.audit.record import Intent, Row
from proxy.audit.store import UNIQUE_VIOLATION, EntryRefusedError, Step, Store, StoreLostError
from proxy.ids import execution_id

BACKOFF_S: Final = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
TICK_S: Final = 0.05

_AWAY: Final = "the audit store is not reachable"

_log = logging.getLogger("postern.audit")


@dataclass(frozen=True, slots=True)
class Doubt:
    """A batch whose commit was cut; `head` is what the chain ends with if it went through."""

    batch: list[Entry]
    head: Head


class AuditWriter:
    """One per worker process, used from one event loop. Make it with `AuditWriter.open`."""

    def __init__(self, store: Store, writer_id: UUID, instance: str, limits: Limits, notary: Notary | None) -> None:
        self.writer_id = writer_id
        self.instance = instance
        self.healthy = False
        self.counters = Counters()
        self.store = store
        self.notary = notary
        self._limits = limits
        self._encoder = Encoder(instance)
        self._links = Links(writer_id)
        self._head = genesis(writer_id)
        self._line = Line(limits.queue_entries, limits.queue_bytes)
        self._owed: deque[Row] = deque()
        self._open: set[UUID] = set()
        self._doubt: Doubt | None = None
        self._attempt = 0
        self._closing = False
        self._attest_at: asyncio.TimerHandle | None = None
        self._attest_due = False
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        dsn: str,
        *,
        instance: str,
        step: Step = "month",
        limits: Limits | None = None,
        notary: Notary | None = None,
    ) -> "AuditWriter":
        """Return a writer that can commit; with a notary it signs checkpoints.

        Raises AuditUnavailable, or AuditStoreError where waiting will not help.
        """
        limits = limits or Limits()
        now = datetime.now(UTC)
        chosen = execution_id(now)
        made = cls(Store(dsn, chosen, instance, limits.commit_timeout_s), chosen, instance, limits, notary)
        try:
            await made.store.open()
            await made.store.ensure_partitions(now, step)
            await made.store.note("opened", now, {"pid": os.getpid(), "format": FORMAT})
        except StoreLostError as error:
            raise AuditUnavailable(str(error)) from error
        made.healthy = True
        made._task = asyncio.create_task(made._work(), name="audit writer")
        return made

    @property
    def dsn(self) -> str:
        """The address of the store, for collaborators that need a connection of their own; a secret."""
        return self.store.dsn

    @property
    def queued(self) -> int:
        """How many entries wait for a commit."""
        return len(self._line)

    async def write_intent(self, intent: Intent) -> None:
        """Return after the commit; raise AuditUnavailable when the intent is not known to be durable."""
        await self._write(intent, is_patient=False)

    async def write_row(self, row: Row) -> None:
        """Return after the commit; raise AuditUnavailable when the row is not known to be durable.

        A row of what was forwarded waits for the store to come back, up to `patience_s`. One that could not be
        committed in time is owed: it is written, and says so, when the store is back.
        """
        request = row.request
        await self._write(row, is_patient=row.outcome.upstream_us is not None or request.execution_id in self._open)

    async def aclose(self) -> None:
        """Commit what is queued, within `drain_s`, and end."""
        self._closing = True
        self._line.wake()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=self._limits.drain_s)
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._attest_at is not None:
            self._attest_at.cancel()
        self.healthy = False
        for entry in [*self._line.remove(lambda _: True), *(self._doubt.batch if self._doubt else ())]:
            entry.fail(AuditUnavailable("the audit writer was closed before the commit"))
        if self._owed:
            _log.critical("%d requests of an outage remain without a row: the store did not come back", len(self._owed))
        await self.store.aclose()

    async def _write(self, record: Intent | Row, *, is_patient: bool) -> None:
        if self._closing or not (self.healthy or is_patient):
            raise self._refusal(record, _AWAY)
        if self._line.is_full and not await self._line.room(self._limits.queue_wait_s):
            raise self._refusal(record, "the audit queue is full")
        if self._closing or not (self.healthy or is_patient):
            raise self._refusal(record, _AWAY)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        entry = encode_entry(self._encoder, record, done, loop.time() + self._limits.patience_s, is_patient=is_patient)
        self._line.add(entry)
        await done

    def _refusal(self, record: Intent | Row, reason: str) -> AuditUnavailable:
        self._owe(record)
        return AuditUnavailable(reason, max(1.0, self._delay_s()))

    def _owe(self, record: Intent | Row) -> None:
        """Keep the row of a request whose caller is told 503, to be written later."""
        self.counters.failed += 1
        if len(self._owed) >= self._limits.owed_entries:
            self._owed.popleft()
            self.counters.unrecorded += 1
        self._owed.append(owed(record, datetime.now(UTC)))

    def _pay(self) -> None:
        while self._owed:
            row = self._owed.popleft()
            self._line.add(encode_entry(self._encoder, row, None, float("inf"), is_patient=True))

    def _delay_s(self) -> float:
        return BACKOFF_S[min(self._attempt, len(BACKOFF_S) - 1)]

    # The flusher: one task, the only user of the store.

    async def _work(self) -> None:
        while True:
            try:
                while await self._has_more():
                    await self._commit(self._line.take(self._limits.batch_entries, self._limits.batch_bytes))
                await self._conclude()
                return
            except StoreLostError as lost:
                await self._mend(str(lost))
            except Exception as error:  # noqa: BLE001  the outermost loop: nothing may end it while requests wait
                _log.exception("the audit writer met what it does not know")
                await self._mend(repr(error))

    async def _has_more(self) -> bool:
        """Wait for entries; False when there are none and there will be none."""
        if self._attest_due:
            await self._attest("head")
        while not self._line:
            if self._attest_due:
                await self._attest("head")
            elif self._owed:
                self._pay()
            elif self._closing:
                return False
            else:
                await self._line.filled()
        return True

    async def _commit(self, batch: list[Entry]) -> None:
        """Commit a batch; if PostgreSQL refuses an entry, each on its own."""
        tuples, head = bytearray(COPY_HEADER), self._head
        for entry in batch:
            head = self._links.append(tuples, head, entry.kind, entry.body)
        tuples += COPY_TRAILER
        try:
            await self.store.append(tuples)
        except EntryRefusedError as refused:
            await self._commit_singly(batch, refused.sqlstate)
        except BaseException:
            self._doubt = Doubt(batch, head)
            raise
        else:
            self._settle(batch, head)

    async def _commit_singly(self, batch: list[Entry], sqlstate: str) -> None:
        if len(batch) == 1:
            await self._commit_refused(batch[0], sqlstate)
            return
        for index, entry in enumerate(batch):
            try:
                await self._commit([entry])
            except BaseException:
                self._line.put_back(batch[index + 1 :])
                raise

    async def _commit_refused(self, entry: Entry, sqlstate: str) -> None:
        """Handle an entry refused on its own: a second row of its execution, or data that cannot be stored as it is."""
        if sqlstate == UNIQUE_VIOLATION:
            self.counters.conflicts += 1
            self._open.discard(entry.execution_id)
            entry.fail(AuditConflict("this execution has its row already, written by another process"))
        elif entry.is_minimal:
            _log.critical("execution %s cannot be recorded: SQLSTATE %s", entry.execution_id, sqlstate)
            entry.fail(AuditUnavailable(f"PostgreSQL refuses the row: SQLSTATE {sqlstate}"))
        else:
            _log.error("execution %s is recorded in reduced form: SQLSTATE %s", entry.execution_id, sqlstate)
            self.counters.reduced += 1
            entry.reduce(self._encoder, minimal(entry.record, f"SQLSTATE {sqlstate}"))
            await self._commit([entry])

    async def _attest(self, kind: Literal["head", "close"]) -> None:
        """Sign what the chain ends with now."""
        if self.notary is not None:
            counts = dataclasses.asdict(self.counters)
            await self.notary.attest(self.store, kind, self._head, counts)
        self._attest_due = False

    def _attest_soon(self) -> None:
        self._attest_at, self._attest_due = None, True
        self._line.wake()

    async def _conclude(self) -> None:
        """End the chain for good; with open intents that is left to whoever reconciles them."""
        if self._open or self._head.seq == 0:
            return
        await self._attest("close")
        detail = {"seq": self._head.seq, "hash": self._head.hash.hex(), "counts": dataclasses.asdict(self.counters)}
        await self.store.note("closed", datetime.now(UTC), detail)

    def _settle(self, batch: list[Entry], head: Head) -> None:
        """Release the waiters of a durable batch."""
        self._head = head
        if self.notary is not None and self._attest_at is None:
            loop = asyncio.get_running_loop()
            self._attest_at = loop.call_later(self.notary.every_s, self._attest_soon)
        self._attempt = 0
        counters, open_intents = self.counters, self._open
        counters.commits += 1
        for entry in batch:
            if entry.kind == "intent":
                counters.intents += 1
                open_intents.add(entry.execution_id)
            else:
                counters.rows += 1
                open_intents.discard(entry.execution_id)
            entry.settle()

    # An outage.

    async def _mend(self, reason: str) -> None:
        """Come back: connect, learn what became of the cut batch, pay what is owed."""
        self.healthy = False
        self.counters.outages += 1
        began = datetime.now(UTC)
        _log.error("the audit store is away, nothing is forwarded: %s", reason)
        for entry in self._line.remove(lambda entry: not entry.is_patient):
            self._abandon(entry, reason)
        while True:
            await self._expiring(asyncio.sleep(self._delay_s() * random.uniform(0.5, 1.0)))  # noqa: S311  no secret
            self._attempt += 1
            if await self._expiring(self._is_back(began, reason)):
                break
        self.healthy = True
        self._pay()
        _log.warning("the audit store is back after %.1f s", (datetime.now(UTC) - began).total_seconds())

    async def _is_back(self, began: datetime, reason: str) -> bool:
        try:
            await self.store.open()
            stored = await self.store.head() or genesis(self.writer_id)
            detail: dict[str, object] = {"since": began.isoformat(), "reason": reason[:200]}
            detail |= self._resolve(stored)
            if stored.seq < self._head.seq:
                detail["lost"] = {"from": stored.seq + 1, "to": self._head.seq}
                _log.critical("the database lost entries %d to %d of this writer", stored.seq + 1, self._head.seq)
            if await self.store.is_closed():
                await self._begin_anew()
            await self.store.note("recovered", datetime.now(UTC), detail | {"owed": len(self._owed)})
        except StoreLostError as error:
            _log.info("the audit store is still away: %s", error)
            return False
        return True

    async def _begin_anew(self) -> None:
        """A reconciler took us for dead and closed our chain: go on with a new one."""
        _log.critical("writer %s was away too long and has been closed by another process", self.writer_id)
        now = datetime.now(UTC)
        self.writer_id = self.store.writer_id = execution_id(now)
        self._links, self._head = Links(self.writer_id), genesis(self.writer_id)
        await self.store.open()
        await self.store.note("opened", now, {"pid": os.getpid(), "format": FORMAT})

    def _resolve(self, stored: Head) -> dict[str, object]:
        """Settle the batch whose commit was cut, or return it to the line; name what is durable but answered 503."""
        doubt, self._doubt = self._doubt, None
        if doubt is None:
            return {}
        if stored == doubt.head:
            withheld = [str(e.execution_id) for e in doubt.batch if e.is_abandoned and e.kind == "row"]
            self._settle(doubt.batch, doubt.head)
            self.counters.withheld += len(withheld)
            return {"committed_but_withheld": withheld} if withheld else {}
        for entry in doubt.batch:
            if entry.is_abandoned and entry.kind == "row":
                self._owe(entry.record)
        self._line.put_back([entry for entry in doubt.batch if not entry.is_abandoned])
        return {}

    async def _expiring(self, work: Coroutine[Any, Any, bool | None]) -> bool | None:
        """Do `work`; meanwhile tell those whose patience is over."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await asyncio.wait([task], timeout=TICK_S)
                self._expire()
        finally:
            task.cancel()
        return await task

    def _expire(self) -> None:
        now = asyncio.get_running_loop().time()
        for entry in self._line.remove(lambda entry: entry.deadline < now):
            self._abandon(entry, "the audit store did not come back in time")
        for entry in self._doubt.batch if self._doubt else ():
            if entry.deadline < now and not entry.is_abandoned:
                self._abandon_in_doubt(entry)

    def _abandon(self, entry: Entry, reason: str) -> None:
        """Fail an entry that is certainly not stored, and owe its row."""
        entry.is_abandoned = True
        self._owe(entry.record)
        entry.fail(AuditUnavailable(reason, max(1.0, self._delay_s())))

    def _abandon_in_doubt(self, entry: Entry) -> None:
        """Fail an entry that may be stored. A row is owed only if it is not, an intent's request needs one anyway."""
        entry.is_abandoned = True
        if entry.kind == "intent":
            self._owe(entry.record)
        entry.fail(AuditUnavailable("the outcome of the commit is unknown", max(1.0, self._delay_s())))
