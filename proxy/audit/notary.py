"""Signs the heads of chains from time to time: into the table, then into the file outside the database."""

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from uuid import UUID

from proxy.audit.chain import Head
from proxy.audit.checkpoint import Checkpoint, append_to_file, row_of, sign, state_head
from proxy.audit.keys import Signer
from proxy.audit.store import Store, last_statement, record_checkpoint
from registry.database.driver import Connection

_log = logging.getLogger("postern.audit")


class Notary:
    """One per writer. `file` may be shared by all writers of a host: lines are appended whole.

    The key should be out of reach of whoever may write the database, and the file out of reach of both.
    """

    def __init__(self, signer: Signer, file: Path | None, every_s: float = 60.0) -> None:
        self.every_s = every_s
        self._signer = signer
        self._file = file
        self._last: tuple[UUID, int, str] | None = None

    async def attest(
        self,
        store: Store,
        kind: Literal["head", "close"],
        head: Head,
        counts: Mapping[str, int],
    ) -> None:
        """Sign the head of one's own chain, unless it has not moved; raise StoreLostError."""
        writer_id, instance = store.writer_id, store.instance
        before = self._last if self._last and self._last[0] == writer_id else None
        if kind == "head" and before and before[1] == head.seq:
            return
        previous = before[2] if before else None
        made = sign(state_head(kind, writer_id, instance, head, counts, previous, datetime.now(UTC)), self._signer)
        await store.record_checkpoint(*row_of(made))
        self._last = (writer_id, head.seq, made.digest)
        await self._append(made)

    async def attest_dead(self, database: Connection, writer_id: UUID, instance: str, head: Head) -> None:
        """Sign the end of a dead writer's chain, as the database has it now."""
        before = await last_statement(database, writer_id)
        previous = hashlib.sha256(before.encode()).hexdigest() if before is not None else None
        made = sign(state_head("close", writer_id, instance, head, {}, previous, datetime.now(UTC)), self._signer)
        await record_checkpoint(database, *row_of(made))
        await self._append(made)

    async def _append(self, made: Checkpoint) -> None:
        if self._file is None:
            return
        try:
            await asyncio.to_thread(append_to_file, self._file, made)
        except OSError as error:
            _log.error("the checkpoint file cannot be written, the table has the checkpoint: %s", error)
