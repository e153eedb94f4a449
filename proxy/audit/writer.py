"""Group commit: whatever was queued while the last commit ran is the next one, without a timer (SPEC A3, A4, A7).

write_* ─▶ line ─▶ flusher: link into the chain ─▶ one statement, one commit ─▶ release every waiter

While the store is away intents fail at once; rows of what was forwarded wait up to `patience_s`, then they are owed.
"""

import asyncio
import os
from collections.abc import Awaitable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from proxy.audit.canonical import Encoder
from proxy.audit.chain import FORMAT
from proxy.audit.entry import encode_entry
from proxy.audit.errors import AuditUnavailable
from proxy.audit.flusher import Flusher
from proxy.audit.limits import Counters, Limits
from proxy.audit.line import Line
from proxy.audit.notary import Notary
from proxy.audit.record import Intent, Row
from proxy.audit.store import Step, Store, StoreLostError
from proxy.ids import execution_id

_AWAY: Final = "the audit store is not reachable"


class AuditWriter:
    """One per worker process, used from one event loop. Make it with `AuditWriter.open`."""

    def __init__(self, store: Store, limits: Limits, notary: Notary | None) -> None:
        self.store = store
        self.notary = notary
        self._limits = limits
        self._encoder = Encoder(store.instance)
        self._line = Line(limits.queue_entries, limits.queue_bytes)
        self._flusher = Flusher(store, self._encoder, self._line, limits, notary)
        self._loop = asyncio.get_running_loop()  # once: each time costs a system call
        self._closing = False
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
        store = Store(dsn, execution_id(now), instance, limits.commit_timeout_s)
        try:
            await store.open()
            await store.ensure_partitions(now, step)
            await store.note("opened", now, {"pid": os.getpid(), "format": FORMAT})
        except StoreLostError as error:
            raise AuditUnavailable(str(error)) from error
        made = cls(store, limits, notary)
        made._start()
        return made

    @property
    def healthy(self) -> bool:
        """Whether the store takes commits."""
        return self._flusher.healthy

    @property
    def counters(self) -> Counters:
        """What this writer has done."""
        return self._flusher.counters

    @property
    def writer_id(self) -> UUID:
        """Whose chain this is; a writer that was taken for dead begins a new one."""
        return self.store.writer_id

    @property
    def dsn(self) -> str:
        """The address of the store, for collaborators that need a connection of their own; a secret."""
        return self.store.dsn

    @property
    def queued(self) -> int:
        """How many entries wait for a commit."""
        return len(self._line)

    def write_intent(self, intent: Intent) -> Awaitable[None]:
        """Return after the commit; raise AuditUnavailable when the intent is not known to be durable."""
        return self._wait_in_line(intent, is_patient=False) if self._line.is_full else self._queue(intent, False)

    def write_row(self, row: Row) -> Awaitable[None]:
        """Return after the commit; raise AuditUnavailable when the row is not known to be durable.

        A row of what was forwarded waits for the store to come back, up to `patience_s`. One that could not be
        committed in time is owed: it is written, and says so, when the store is back.
        """
        is_patient = row.outcome.upstream_us is not None or row.request.execution_id in self._flusher.open_intents
        return self._wait_in_line(row, is_patient=is_patient) if self._line.is_full else self._queue(row, is_patient)

    async def aclose(self) -> None:
        """Commit what is queued, within `drain_s`, and end."""
        self._closing = True
        self._flusher.close()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=self._limits.drain_s)
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._flusher.give_up()
        await self.store.aclose()

    def _start(self) -> None:
        self._flusher.healthy = True
        self._task = asyncio.create_task(self._flusher.run(), name="audit writer")

    async def _wait_in_line(self, record: Intent | Row, *, is_patient: bool) -> None:
        """Wait until the line is not full any more, which is the back-pressure, and then for the commit."""
        self._refuse_when_away(record, is_patient=is_patient)
        if not await self._line.room(self._limits.queue_wait_s):
            raise self._refusal(record, "the audit queue is full")
        await self._queue(record, is_patient)

    def _queue(self, record: Intent | Row, is_patient: bool) -> asyncio.Future[None]:
        """Put the record into the line; its commit completes the future."""
        done: asyncio.Future[None] = self._loop.create_future()
        until = self._loop.time() + self._limits.patience_s
        try:
            self._refuse_when_away(record, is_patient=is_patient)
            self._line.add(encode_entry(self._encoder, record, done, until, is_patient=is_patient))
        except AuditUnavailable as error:
            done.set_exception(error)
        return done

    def _refuse_when_away(self, record: Intent | Row, *, is_patient: bool) -> None:
        if self._closing or not (self._flusher.healthy or is_patient):
            raise self._refusal(record, _AWAY)

    def _refusal(self, record: Intent | Row, reason: str) -> AuditUnavailable:
        self._flusher.owe(record)
        return AuditUnavailable(reason, self._flusher.retry_after_s)
