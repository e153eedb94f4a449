"""The one task that commits: links what waits into the chain, and finds its way back after an outage.

A cut in the middle of a commit leaves its outcome unknown. The flusher then reconnects, which is possible only when the
old session is gone for good (it held the lock on the writer's id), and asks whether the batch is there.
"""

import asyncio
import dataclasses
import logging
import os
import random
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal
from uuid import UUID

from proxy.audit.canonical import Encoder
from proxy.audit.chain import FORMAT, Head, Link, Links, genesis
from proxy.audit.debts import Debts
from proxy.audit.entry import Entry, encode_entry, minimal, owed
from proxy.audit.errors import AuditConflict, AuditUnavailable
from proxy.audit.limits import Counters, Limits
from proxy.audit.line import Line
from proxy.audit.notary import Notary
from proxy.audit.record import Intent, Row
from proxy.audit.store import UNIQUE_VIOLATION, EntryRefusedError, Store, StoreLostError
from proxy.ids import execution_id

BACKOFF_S: Final = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
TICK_S: Final = 0.05
LOOK_S: Final = 2.0
GATHER_TURNS: Final = 4  # of the loop: an answer goes out, the next request comes in and is read
GATHERED: Final = 8

_log = logging.getLogger("postern.audit")


@dataclass(frozen=True, slots=True)
class Doubt:
    """A batch whose commit was cut; `head` is what the chain ends with if it went through."""

    batch: list[Entry]
    head: Head


class Flusher:
    """The only user of the store. `open_intents` are durable and have no row yet."""

    def __init__(self, store: Store, encoder: Encoder, line: Line, limits: Limits, notary: Notary | None) -> None:
        self.healthy = False
        self.counters = Counters()
        self.open_intents: set[UUID] = set()
        self._store = store
        self._encoder = encoder
        self._line = line
        self._limits = limits
        self._notary = notary
        self._links = Links(store.writer_id)
        self._head = genesis(store.writer_id)
        self._owed = Debts(limits.owed_entries, limits.owed_bytes)
        self._doubt: Doubt | None = None
        self._attempt = 0
        self._closing = False
        self._attest_at: asyncio.TimerHandle | None = None
        self._attest_due = False
        self._look_at: asyncio.TimerHandle | None = None
        self._look_due = False

    @property
    def retry_after_s(self) -> float:
        """When a refused caller may try again."""
        return max(1.0, self._delay_s())

    def owe(self, record: Intent | Row) -> None:
        """Keep the row of a request whose caller is told 503, to be written later."""
        self.counters.failed += 1
        has_reached = isinstance(record, Row) and (
            record.outcome.upstream_us is not None or record.request.execution_id in self.open_intents
        )
        if self._owed.add(owed(record, datetime.now(UTC)), has_reached=has_reached):
            return
        self.counters.unrecorded += 1
        if self.counters.unrecorded == 1:
            _log.critical("no room for more rows of this outage: what is refused from now on is only counted")

    def close(self) -> None:
        """Let `run` return when all is committed."""
        self._closing = True
        self._line.wake()

    def give_up(self) -> None:
        """Fail whoever still waits; `run` has ended."""
        self.healthy = False
        for timer in (self._attest_at, self._look_at):
            if timer is not None:
                timer.cancel()
        left = [*self._line.remove(lambda _: True), *(self._doubt.batch if self._doubt else ())]
        for entry in left:
            entry.fail(AuditUnavailable("the audit writer was closed before the commit"))
        if count := len(self._owed) + sum(entry.kind == "row" for entry in left):
            _log.critical("%d requests of an outage may remain without a row: the store did not come back", count)

    def _pay(self) -> None:
        for row in self._owed.pay():
            self._line.add(encode_entry(self._encoder, row, None, float("inf"), is_patient=True))

    def _delay_s(self) -> float:
        return BACKOFF_S[min(self._attempt, len(BACKOFF_S) - 1)]

    async def run(self) -> None:
        """Commit what comes, until `close` and the line is empty."""
        self._look_later()
        while True:
            try:
                while await self._has_more():
                    batch = self._line.take(self._limits.batch_entries, self._limits.batch_bytes)
                    await self._commit(batch)
                    if len(batch) > 1:
                        await self._gather()
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
            elif self._look_due:
                await self._look()
            else:
                await self._line.filled()
        return True

    async def _gather(self) -> None:
        """Let callers that come together go on, so that what they write next shares a commit: turns, never a time."""
        for _ in range(GATHER_TURNS):
            if len(self._line) >= GATHERED:
                return
            await asyncio.sleep(0)

    async def _look(self) -> None:
        """See that the store is there while nothing is written: health must not say so without proof."""
        await self._store.probe()
        self._look_due = False
        self._look_later()

    def _look_later(self) -> None:
        self._look_at = asyncio.get_running_loop().call_later(LOOK_S, self._look_soon)

    def _look_soon(self) -> None:
        self._look_due = True
        self._line.wake()

    async def _commit(self, batch: list[Entry]) -> None:
        """Commit a batch; if PostgreSQL refuses an entry, each on its own."""
        linked: list[Link] = []
        head = self._head
        for entry in batch:
            head = self._links.append(linked, head, entry.kind, entry.body)
        try:
            await self._store.append(linked)
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
            self.open_intents.discard(entry.execution_id)
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
        if self._notary is not None:
            counts = dataclasses.asdict(self.counters)
            await self._notary.attest(self._store, kind, self._head, counts)
        self._attest_due = False

    def _attest_soon(self) -> None:
        self._attest_at, self._attest_due = None, True
        self._line.wake()

    async def _conclude(self) -> None:
        """End the chain for good; with open intents that is left to whoever reconciles them."""
        if self.open_intents or self._head.seq == 0:
            return
        await self._attest("close")
        detail = {"seq": self._head.seq, "hash": self._head.hash.hex(), "counts": dataclasses.asdict(self.counters)}
        await self._store.note("closed", datetime.now(UTC), detail)

    def _settle(self, batch: list[Entry], head: Head) -> None:
        """Release the waiters of a durable batch."""
        self._head = head
        if self._notary is not None and self._attest_at is None:
            loop = asyncio.get_running_loop()
            self._attest_at = loop.call_later(self._notary.every_s, self._attest_soon)
        self._attempt = 0
        counters, open_intents = self.counters, self.open_intents
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
            await self._store.open()
            stored = await self._store.head() or genesis(self._store.writer_id)
            detail: dict[str, object] = {"since": began.isoformat(), "reason": reason[:200]}
            detail |= self._resolve(stored)
            if stored.seq < self._head.seq:
                detail["lost"] = {"from": stored.seq + 1, "to": self._head.seq}
                _log.critical("the database lost entries %d to %d of this writer", stored.seq + 1, self._head.seq)
            if await self._store.is_closed():
                await self._begin_anew()
            await self._store.note("recovered", datetime.now(UTC), detail | {"owed": len(self._owed)})
        except StoreLostError as error:
            _log.info("the audit store is still away: %s", error)
            return False
        except Exception as error:  # noqa: BLE001  as in `run`; a store that is being restored has no tables, for one
            _log.error("the audit store is there and cannot be used: %s", error)
            return False
        return True

    async def _begin_anew(self) -> None:
        """A reconciler took us for dead and closed our chain: go on with a new one."""
        _log.critical("writer %s was away too long and has been closed by another process", self._store.writer_id)
        now = datetime.now(UTC)
        self._store.writer_id = execution_id(now)
        self._links, self._head = Links(self._store.writer_id), genesis(self._store.writer_id)
        await self._store.open()
        await self._store.note("opened", now, {"pid": os.getpid(), "format": FORMAT})

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
                self.owe(entry.record)
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
        self.owe(entry.record)
        entry.fail(AuditUnavailable(reason, self.retry_after_s))

    def _abandon_in_doubt(self, entry: Entry) -> None:
        """Fail an entry that may be stored. A row is owed only if it is not, an intent's request needs one anyway."""
        entry.is_abandoned = True
        if entry.kind == "intent":
            self.owe(entry.record)
        entry.fail(AuditUnavailable("the outcome of the commit is unknown", self.retry_after_s))
