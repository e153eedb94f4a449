"""Intents of dead writers become `interrupted` rows: by one process, once."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from proxy.audit.reconcile import REASON, Reconciler, close_interrupted
from proxy.audit.writer import AuditWriter
from registry.database.pool import connection
from tests.fixtures_postgres import Database
from tests.unit.audit.samples import call, request

ROLE = "postern_proxy"


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[AuditWriter]:
    opened = await AuditWriter.open(database.dsn(ROLE), instance="survivor")
    yield opened
    await opened.aclose()


async def leave_open(database: Database, count: int) -> list[Any]:
    """A writer commits intents, then dies without a word."""
    dying = await AuditWriter.open(database.dsn(ROLE), instance="dying")
    intents = [call()[0] for _ in range(count)]
    await asyncio.gather(*(dying.write_intent(intent) for intent in intents))
    intent, row = call()
    await dying.write_intent(intent)
    await dying.write_row(row)
    await dying.aclose()
    return intents


async def test_open_intents_of_a_dead_writer_get_their_row(database: Database, writer: AuditWriter) -> None:
    (intent,) = await leave_open(database, 1)
    async with connection(database.dsn(ROLE)) as own:
        assert await close_interrupted(own, writer) == 1
        row = await own.fetchrow("select * from audit_log where status = 'interrupted'")
    assert row is not None
    assert (row["execution_id"], row["started_at"]) == (intent.request.execution_id, intent.request.started)
    assert (row["reason"], row["writer_id"]) == (REASON, writer.writer_id)
    assert (row["subject"], row["input"], row["scopes_matched"]) == ("alice", '{"text":"hello"}', ["notes:write"])


async def test_a_living_writer_keeps_its_intents(database: Database, writer: AuditWriter) -> None:
    living = await AuditWriter.open(database.dsn(ROLE), instance="living")
    await living.write_intent(call()[0])
    async with connection(database.dsn(ROLE)) as own:
        assert await close_interrupted(own, writer) == 0
    await living.aclose()


async def test_two_processes_close_once(database: Database, writer: AuditWriter) -> None:
    await leave_open(database, 300)
    other = await AuditWriter.open(database.dsn(ROLE), instance="other survivor")
    async with connection(database.dsn(ROLE)) as one, connection(database.dsn(ROLE)) as two:
        counts = await asyncio.gather(close_interrupted(one, writer), close_interrupted(two, other))
        counts += await asyncio.gather(close_interrupted(one, writer), close_interrupted(two, other))
        assert sorted(counts) == [0, 0, 0, 300]
        assert await one.fetchval("select count(*) from audit_log where status = 'interrupted'") == 300
        assert await one.fetchval("select count(*) from audit_writers where event = 'closed'") == 1
    await other.aclose()


async def test_a_writer_that_may_come_back_is_given_time(database: Database, writer: AuditWriter) -> None:
    await leave_open(database, 1)
    reconciler = Reconciler(writer, grace_s=20)
    async with connection(database.dsn(ROLE)) as own:
        assert await reconciler.run(own, now=100.0) == 0
        assert await reconciler.run(own, now=119.0) == 0
        reconciler.forget()
        assert await reconciler.run(own, now=121.0) == 0
        assert await reconciler.run(own, now=141.0) == 1


async def test_a_writer_closed_by_mistake_begins_a_new_chain(database: Database, writer: AuditWriter) -> None:
    late = await AuditWriter.open(database.dsn(ROLE), instance="late")
    before = late.writer_id
    await late.write_intent(call()[0])
    late.store.drop()  # its connection is cut; it does not know yet
    async with connection(database.dsn(ROLE)) as own:
        for _ in range(100):
            if await close_interrupted(own, writer):
                break
            await asyncio.sleep(0.02)
        intent, row = call(request().server)
        for _ in range(200):
            try:
                await late.write_intent(intent)
                break
            except Exception:  # noqa: BLE001
                await asyncio.sleep(0.02)
        await late.write_row(row)
        assert late.writer_id != before
        found = await own.fetchval("select seq from audit_log where execution_id = $1", row.request.execution_id)
        assert found is not None
    await late.aclose()
