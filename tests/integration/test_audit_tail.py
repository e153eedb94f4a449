"""Following the log: no row is left out or told twice, however commits overtake each other and however much waits."""

import asyncio
from uuid import UUID

from proxy.audit.query import Filter
from proxy.audit.record import Row
from proxy.audit.tail import Tail
from proxy.audit.writer import AuditWriter
from registry.database.pool import connection
from tests.fixtures_postgres import Database
from tests.unit.audit.samples import outcome, refusal, request

GATE = 4711
SLOW_COMMITS = f"""
    create function wait_at_the_gate() returns trigger language plpgsql as
      'begin if new.tool = ''slow'' then perform pg_advisory_xact_lock_shared({GATE}); end if; return null; end';
    create constraint trigger wait_at_the_gate after insert on audit_log deferrable initially deferred
      for each row execute function wait_at_the_gate()"""


async def test_a_row_that_was_written_first_and_committed_last_is_told(database: Database) -> None:
    early, late = [await AuditWriter.open(database.dsn("postern_proxy"), instance=name) for name in ("early", "late")]
    slow, quick = Row(request(tool="slow"), outcome()), [refusal() for _ in range(3)]
    async with connection(database.dsn()) as owner, connection(database.dsn("postern_auditor")) as auditor:
        await owner.execute(SLOW_COMMITS)
        tail = Tail("audit_log", Filter())
        await tail.start(auditor, 0)
        await owner.execute("select pg_advisory_lock($1)", GATE)
        writing = asyncio.ensure_future(early.write_row(slow))
        for row in quick:
            await late.write_row(row)
        told = [row["execution_id"] for row in await tail.advance(auditor)]
        assert told == [row.request.execution_id for row in quick]
        await owner.execute("select pg_advisory_unlock($1)", GATE)
        await writing
        assert [row["execution_id"] for row in await tail.advance(auditor)] == [slow.request.execution_id]
        assert await tail.advance(auditor) == ()
    for writer in (early, late):
        await writer.aclose()


async def test_what_came_during_a_long_absence_is_told_in_bounded_turns(database: Database) -> None:
    writer = await AuditWriter.open(database.dsn("postern_proxy"), instance="one")
    async with connection(database.dsn("postern_operator")) as operator:
        tail = Tail("audit_metadata", Filter(), most=10)
        await tail.start(operator, 0)
        await asyncio.gather(*(writer.write_row(refusal()) for _ in range(25)))
        turns: list[list[UUID]] = []
        while turn := await tail.advance(operator):
            turns.append([row["execution_id"] for row in turn])
    await writer.aclose()
    assert [len(turn) for turn in turns] == [10, 10, 5]
    assert len({execution for turn in turns for execution in turn}) == 25
