"""The writer against real PostgreSQL: what it returns for is durable, and nothing else is."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from proxy.audit.errors import AuditConflict, AuditStoreError, AuditUnavailable
from proxy.audit.limits import Limits
from proxy.audit.record import Intent, Row, Status, Subject
from proxy.audit.store import lock_key
from proxy.audit.writer import AuditWriter
from registry.database.pool import connection
from tests.fixtures_postgres import SUPERUSER, Database
from tests.unit.audit.samples import call, outcome, refusal, request


@asynccontextmanager
async def opened(database: Database, **limits: Any) -> AsyncGenerator[AuditWriter]:
    writer = await AuditWriter.open(database.dsn("postern_proxy"), instance="test-1", limits=Limits(**limits))
    try:
        yield writer
    finally:
        await writer.aclose()


async def rows(database: Database, query: str = "select * from audit_log order by seq", *args: Any) -> list[Any]:
    async with connection(database.dsn("postern_auditor")) as auditor:
        return await auditor.fetch(query, *args)


async def test_a_row_is_readable_by_others_when_write_returns(database: Database) -> None:
    intent, row = call()
    async with opened(database) as writer:
        await writer.write_intent(intent)
        assert [r["execution_id"] for r in await rows(database, "select * from audit_intents")] == [
            intent.request.execution_id
        ]
        await writer.write_row(row)
        (stored,) = await rows(database)
    assert stored["status"] == "success"
    assert stored["started_at"] == row.request.started
    assert stored["scopes_matched"] == ["notes:write"]
    assert (stored["issuer"], stored["subject"], stored["agent"]) == ("https://issuer.example/", "alice", "assistant")
    assert (stored["input"], stored["input_bytes"], stored["input_sha256"]) == ('{"text":"hello"}', 16, b"i" * 32)
    assert (stored["duration_us"], stored["upstream_us"], stored["instance"]) == (2_000, 1_500, "test-1")


async def test_concurrent_writes_share_commits(database: Database) -> None:
    async with opened(database) as writer:
        await asyncio.gather(*(writer.write_row(refusal()) for _ in range(500)))
        assert writer.counters.rows == 500
        assert writer.counters.commits < 10
    assert len(await rows(database)) == 500


async def test_callers_that_go_on_within_a_few_turns_share_the_next_commit(database: Database) -> None:
    async def caller(turns: int) -> None:
        for _ in range(25):
            await writer.write_row(refusal())
            for _ in range(turns):
                await asyncio.sleep(0)

    async with opened(database) as writer:
        await asyncio.gather(*(caller(number % 4) for number in range(8)))
        assert writer.counters.rows == 200
        assert writer.counters.commits <= 35, "one for each time that all of them write, and some at the ends"


async def test_chain_numbers_are_without_gap_over_intents_and_rows(database: Database) -> None:
    async with opened(database) as writer:
        await asyncio.gather(*(one_call(writer) for _ in range(50)))
    found = await rows(database, "select seq, prev_hash, row_hash from audit_entries order by seq")
    assert [row["seq"] for row in found] == list(range(1, 101))
    assert [row["prev_hash"] for row in found[1:]] == [row["row_hash"] for row in found[:-1]]


async def one_call(writer: AuditWriter) -> None:
    intent, row = call()
    await writer.write_intent(intent)
    await writer.write_row(row)


HOSTILE = [
    ("NUL in text", {"tool": "a\0b"}, "a\\u0000b"),
    ("lone surrogate", {"tool": "a\udc80b"}, "a\\udc80b"),
    ("oversized", {"tool": "é" * 5000}, "é" * 510 + "…"),
]


@pytest.mark.parametrize(("name", "change", "stored"), HOSTILE, ids=[case[0] for case in HOSTILE])
async def test_hostile_text_is_stored_visibly(
    database: Database, name: str, change: dict[str, str], stored: str
) -> None:
    async with opened(database) as writer:
        await writer.write_row(Row(request(**change), outcome()))
        assert writer.counters.reduced == 0
    (row,) = await rows(database)
    assert row["tool"] == stored


async def test_every_text_of_a_row_may_be_hostile(database: Database) -> None:
    bad = "\0\ud800" * 9000
    asked = request(
        server=bad, method=bad, tool=bad, subject=Subject(bad, bad, bad, bad, bad, bad), audience=bad, session=bad,
        protocol_version=bad, trace_id=bad, remote=bad, http_method=bad,
    )  # fmt: skip
    ended = outcome(
        decision=bad,
        reason=bad,
        contract=bad,
        artifact=bad,
        error=bad,
        hooks=({bad: bad},),
        duration_us=2**70,
        events=-1,
    )
    async with opened(database) as writer:
        await writer.write_row(Row(asked, ended))
        assert writer.counters.reduced == 0


async def test_a_row_that_postgres_refuses_is_reduced_and_its_batch_survives(database: Database) -> None:
    async with connection(database.dsn()) as owner:
        await owner.execute("alter table audit_log add constraint no_poison check (tool <> 'poison')")
    poison = Row(request(tool="poison"), outcome())
    async with opened(database) as writer:
        await asyncio.gather(*(writer.write_row(row) for row in (refusal(), poison, refusal())))
        assert writer.counters.reduced == 1
        assert writer.healthy
    found = {row["execution_id"]: row for row in await rows(database)}
    reduced = found[poison.request.execution_id]
    assert len(found) == 3
    assert reduced["tool"] is None
    assert "SQLSTATE 23514" in reduced["reason"]
    assert (reduced["status"], reduced["output_sha256"]) == ("success", b"o" * 32)


async def test_a_row_that_cannot_be_encoded_is_reduced(database: Database) -> None:
    odd = Row(request(), outcome(http_status=10**6))
    async with opened(database) as writer:
        await writer.write_row(odd)
    (row,) = await rows(database)
    assert row["http_status"] == 500
    assert "cannot be stored (error)" in row["reason"]


async def test_a_naive_time_is_unavailable_not_a_crash(database: Database) -> None:
    async with opened(database) as writer:
        with pytest.raises(AuditUnavailable):
            await writer.write_row(Row(request(started=datetime(2026, 1, 1)), outcome()))  # noqa: DTZ001
        await writer.write_row(refusal())


async def test_the_second_row_of_an_execution_is_a_conflict_and_its_batch_survives(database: Database) -> None:
    intent, row = call()
    async with opened(database) as first, opened(database) as second:
        await first.write_intent(intent)
        await second.write_row(Row(row.request, outcome(Status.INTERRUPTED)))
        results = await asyncio.gather(
            *(first.write_row(one) for one in (refusal(), row, refusal())), return_exceptions=True
        )
        assert [type(result) for result in results] == [type(None), AuditConflict, type(None)]
        assert first.healthy
    found = await rows(database)
    assert len(found) == 3
    assert [r["status"] for r in found if r["execution_id"] == row.request.execution_id] == ["interrupted"]


async def test_a_partition_that_is_missing_does_not_stop_a_row(database: Database) -> None:
    long_ago = Row(request(started=datetime(2019, 5, 1, tzinfo=UTC)), outcome())
    async with opened(database) as writer:
        await writer.write_row(long_ago)
    assert len(await rows(database, "select * from audit_log where started_at < '2020-01-01'")) == 1


async def test_weak_synchronous_commit_is_raised(database: Database) -> None:
    async with connection(database.dsn(SUPERUSER)) as admin:
        await admin.execute(f"alter role postern_proxy in database {database.name} set synchronous_commit = off")
    async with opened(database) as writer:
        live = writer.store._live()
        assert await live.fetchval("show synchronous_commit") == "on"


async def test_a_writer_holds_its_lock_until_it_closes(database: Database) -> None:
    async with opened(database) as writer, connection(database.dsn("postern_proxy")) as other:
        assert not await other.fetchval("select pg_try_advisory_lock($1)", lock_key(writer.writer_id))
        await writer.aclose()
        assert await other.fetchval("select pg_try_advisory_lock($1)", lock_key(writer.writer_id))


async def test_a_database_without_tables_says_what_to_do(empty_database: Database) -> None:
    with pytest.raises(AuditStoreError, match="postern migrate"):
        await AuditWriter.open(empty_database.dsn("postern_proxy"), instance="test")


async def test_a_closed_writer_refuses(database: Database) -> None:
    async with opened(database) as writer:
        await writer.aclose()
        with pytest.raises(AuditUnavailable):
            await writer.write_row(refusal())


async def test_close_commits_what_is_queued(database: Database) -> None:
    async with opened(database) as writer:
        waiting = [asyncio.ensure_future(writer.write_row(refusal())) for _ in range(100)]
        await asyncio.sleep(0)
        await writer.aclose()
        await asyncio.gather(*waiting)
    assert len(await rows(database)) == 100


async def test_a_cancelled_waiter_leaves_its_row_and_the_others(database: Database) -> None:
    async with opened(database) as writer:
        first, second = (asyncio.ensure_future(writer.write_row(refusal())) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await second
    assert len(await rows(database)) == 2


async def test_a_full_queue_presses_back_then_refuses(database: Database) -> None:
    async with opened(database, queue_entries=10, queue_wait_s=0.2) as writer, connection(database.dsn()) as owner:
        async with owner.transaction():
            await owner.execute("lock table audit_entries in access exclusive mode")
            waiting = [asyncio.ensure_future(writer.write_row(refusal())) for _ in range(40)]
            done, pending = await asyncio.wait(waiting, timeout=1.5)
            assert {type(task.exception()) for task in done} == {AuditUnavailable}
            assert 10 <= len(pending) <= 21  # a queue full, and at most as many in the commit that hangs
        await asyncio.gather(*pending)
        for _ in range(200):
            if writer.counters.rows == 40:
                break
            await asyncio.sleep(0.02)
    found = await rows(database)
    assert len(found) == 40
    assert sum(row["http_status"] == 503 for row in found) == len(done)


async def test_intents_and_replaced_requests_stay_apart(database: Database) -> None:
    intent, row = call()
    async with opened(database) as writer:
        await writer.write_intent(intent)
        with pytest.raises(AuditConflict):
            await writer.write_intent(Intent(replace(intent.request)))
        await writer.write_row(row)
