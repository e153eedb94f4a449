"""Callers for fault tests, and the books that must balance after each fault."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import asyncpg

from proxy.audit.chain import genesis
from proxy.audit.errors import AuditUnavailable
from proxy.audit.writer import AuditWriter
from registry.database.pool import connection
from tests.unit.audit.samples import call


def forgive_asyncpg() -> None:
    """It forgets a future of its own when a statement begins between a FATAL message and the end of the stream."""
    loop = asyncio.get_running_loop()
    report = loop.get_exception_handler()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), asyncpg.ConnectionDoesNotExistError) and report is not None:
            report(loop, context)

    loop.set_exception_handler(handle)


class Load:
    """Callers that do intent, work, row; `told` are the executions whose caller got an answer."""

    def __init__(self, writer: AuditWriter) -> None:
        self.writer = writer
        self.told: set[UUID] = set()
        self.dispatched: set[UUID] = set()
        self.refused = 0

    async def run(self, until: asyncio.Event) -> None:
        while not until.is_set():
            intent, row = call()
            try:
                await self.writer.write_intent(intent)
                self.dispatched.add(intent.request.execution_id)
                await asyncio.sleep(0)
                await self.writer.write_row(row)
                self.told.add(row.request.execution_id)
            except AuditUnavailable:
                self.refused += 1
                await asyncio.sleep(0.01)


async def until(is_so: Callable[[], bool], what: str, limit_s: float = 20) -> None:
    deadline = asyncio.get_running_loop().time() + limit_s
    while not is_so():
        assert asyncio.get_running_loop().time() < deadline, f"not within {limit_s} s: {what}"
        await asyncio.sleep(0.01)


async def check_books(auditor_dsn: str, load: Load) -> None:
    """Answered ⊆ recorded, dispatched ⊆ recorded, and the chain is whole."""
    async with connection(auditor_dsn) as auditor:
        logged = {row[0] for row in await auditor.fetch("select execution_id from audit_log")}
        intended = {row[0] for row in await auditor.fetch("select execution_id from audit_intents")}
        links = await auditor.fetch(
            "select seq, prev_hash, row_hash from audit_entries where writer_id = $1 order by seq",
            load.writer.writer_id,
        )
    assert load.told <= logged
    assert load.dispatched <= intended
    assert load.dispatched <= logged, "every dispatched call has its row, in time or owed"
    assert [row["seq"] for row in links] == list(range(1, len(links) + 1))
    previous = genesis(load.writer.writer_id).hash
    for row in links:
        assert row["prev_hash"] == previous
        previous = row["row_hash"]
