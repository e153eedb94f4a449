"""A small batch goes as one parameter of one statement, a large one by COPY; what is stored is the same."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.audit.appending import MOST_BYTES, MOST_ENTRIES, Appending
from proxy.audit.chain import STORED_COLUMNS, Link
from proxy.audit.errors import AuditConflict
from proxy.audit.keys import PublicKeys
from proxy.audit.limits import Limits
from proxy.audit.record import Intent, Payload, Row
from proxy.audit.store import ensure_partitions
from proxy.audit.tuples import copied
from proxy.audit.verify import verify
from proxy.audit.writer import AuditWriter
from registry.database.migrations import migrate, read_migrations
from registry.database.pool import connection
from tests.fixtures_postgres import SUPERUSER, Database
from tests.sidecar import wait_for
from tests.unit.audit.generated import records
from tests.unit.audit.samples import call, outcome, refusal, request
from tests.unit.audit.test_tuples import linked

UNIQUE = st.lists(records, min_size=1, max_size=MOST_ENTRIES, unique_by=lambda each: each.request.execution_id)
LAST = "select query from pg_stat_activity where application_name = 'postern audit' and datname = $1"


async def opened(database: Database) -> AuditWriter:
    return await AuditWriter.open(database.dsn("postern_proxy"), instance="test-1", limits=Limits())


async def stored(database: Database) -> bytes:
    """Return what is stored as PostgreSQL copies it out."""
    found = bytearray()

    async def take(piece: bytes) -> None:
        found.extend(piece)

    async with connection(database.dsn("postern_auditor")) as auditor:
        query = f"select {', '.join(STORED_COLUMNS)} from audit_entries order by seq"
        await cast("Any", auditor).copy_from_query(query, output=take, format="binary")
    return bytes(found)


async def stored_both_ways(database: Database, links: list[Link]) -> list[bytes]:
    found: list[bytes] = []
    for is_copy in (False, True):
        async with connection(database.dsn("postern_proxy")) as proxy:
            way = Appending(proxy, None, 0) if is_copy else await Appending.on(proxy)
            await way.append(links, 5)
            assert way.is_by_copy is is_copy
        found.append(await stored(database))
        async with connection(database.dsn()) as owner:
            await owner.execute("delete from audit_entries")
    return found


@given(UNIQUE)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_both_ways_store_the_very_bytes_that_are_hashed(database: Database, made: list[Intent | Row]) -> None:
    links = linked(made)
    assert asyncio.run(stored_both_ways(database, links)) == [bytes(copied(links))] * 2


async def test_a_small_batch_is_one_statement_and_a_large_one_a_copy(database: Database) -> None:
    writer = await opened(database)
    async with connection(database.dsn(SUPERUSER)) as admin:
        await writer.write_row(refusal())
        assert (await admin.fetchval(LAST, database.name)).startswith("insert into audit_entries")
        await asyncio.gather(*(writer.write_row(refusal()) for _ in range(MOST_ENTRIES + 1)))
        assert (await admin.fetchval(LAST, database.name)).startswith("COPY")
        large = Payload("x" * (MOST_BYTES + 1), 1, b"i" * 32)
        await asyncio.gather(*(writer.write_row(refusal()) for _ in range(MOST_ENTRIES)))
        assert (await admin.fetchval(LAST, database.name)).startswith("insert into audit_entries")
        await writer.write_row(Row(request(input=large), outcome()))
        assert (await admin.fetchval(LAST, database.name)).startswith("COPY")
    await writer.aclose()
    assert writer.counters.commits == 4


async def test_partitions_may_come_and_go_under_the_statement(database: Database) -> None:
    """The plan is kept after some executions; PostgreSQL makes it anew when the tables change."""
    writer = await opened(database)
    ahead = datetime.now(UTC) + timedelta(days=200)
    async with connection(database.dsn()) as owner:
        for started in (datetime.now(UTC), ahead):
            for _ in range(8):
                await writer.write_row(Row(request(started=started), outcome()))
            await ensure_partitions(owner, ahead, "month")
        await owner.execute("drop table audit_log_default; alter table audit_entries add column later text")
        await writer.write_row(refusal())
        partition = f"audit_log_{ahead:%Y_%m}"
        assert await owner.fetchval(f"select count(*) from {partition}") == 8
    assert writer.counters.outages == 0
    assert writer.counters.commits == 17
    await writer.aclose()


OUTDATED = {
    "the types are gone": "drop domain audit_batch; drop type audit_link",
    "the types are others": "drop domain audit_batch; drop type audit_link;"
    "create type audit_link as (format smallint); create domain audit_batch as audit_link[]",
    "a column was added to the type": "alter type audit_link add attribute later text",
}


@pytest.mark.parametrize("change", OUTDATED.values(), ids=OUTDATED.keys())
async def test_a_statement_that_does_not_fit_any_more_is_no_outage(
    database: Database, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    writer = await opened(database)
    intent, row = call()
    await writer.write_intent(intent)
    async with connection(database.dsn()) as owner:
        await owner.execute(change)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "postern.audit"):
        await asyncio.gather(writer.write_row(row), writer.write_row(refusal()))
        await writer.write_row(refusal())
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "the audit statement fits no more, this connection goes on by COPY"
    ]
    with pytest.raises(AuditConflict):
        await writer.write_row(row)
    assert (writer.counters.outages, writer.counters.intents, writer.counters.rows) == (0, 1, 3)
    await writer.aclose()


async def test_a_statement_that_was_forgotten_is_no_outage(database: Database) -> None:
    writer = await opened(database)
    await writer.store._live().execute("deallocate all")
    await writer.write_row(refusal())
    assert (writer.counters.outages, writer.counters.rows) == (0, 1)
    await writer.aclose()


async def test_a_database_that_is_not_migrated_yet_is_written_by_copy(empty_database: Database) -> None:
    await migrate(empty_database.dsn(), [each for each in read_migrations() if each.version < 8])
    writer = await opened(empty_database)
    await writer.write_row(refusal())
    assert (writer.counters.outages, writer.counters.rows) == (0, 1)
    await writer.aclose()


SWALLOWING = """
    create function nothing() returns trigger language plpgsql as $$ begin return null; end $$;
    create trigger swallow before insert on audit_log for each row execute function nothing()
"""


@pytest.mark.parametrize("rows", [1, MOST_ENTRIES + 1])
async def test_what_a_trigger_of_the_owner_swallows_is_not_called_durable(database: Database, rows: int) -> None:
    """PostgreSQL commits without complaint, and says that it stored nothing."""
    writer = await opened(database)
    async with connection(database.dsn()) as owner:
        await owner.execute(SWALLOWING)
        waiting = [asyncio.ensure_future(writer.write_row(refusal())) for _ in range(rows)]
        await asyncio.to_thread(wait_for, lambda: writer.counters.outages > 1, "the writer has tried twice")
        assert not any(each.done() for each in waiting)
        await owner.execute("drop trigger swallow on audit_log")
        await asyncio.gather(*waiting)
        await writer.aclose()
        assert await owner.fetchval("select count(*) from audit_log") == rows
    async with connection(database.dsn("postern_auditor")) as auditor:
        assert not (await verify(auditor, PublicKeys())).findings
