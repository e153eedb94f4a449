"""Rows, history, locks and downtime in a real database, also when it goes away."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from registry.database.pool import connection
from supervisor_plugin.ledger import Ledger, LedgerAwayError, Row
from supervisor_plugin.processes import Identity
from tests.fixtures_postgres import Database, PrivatePostgres

NOW = datetime.now(UTC)


def make_row(server: str = "alpha", **changes: Any) -> Row:
    row = Row(
        server=server, type="internal", status="running", health="healthy", can_route=True, reason=None,
        process=Identity(10, 100), port=5000, binary="b1", failures=0, restarts=0, tool_count=2,
        protocol_versions=("2026-07-28",), latency_ms=1.5, since=NOW, down_since=None, started_at=NOW, checked_at=NOW,
        updated_at=datetime.now(UTC),
    )  # fmt: skip
    return replace(row, **changes)


def down(server: str = "alpha", **changes: Any) -> Row:
    return make_row(server, status="failed", health="unhealthy", can_route=False, process=None, **changes)


@contextlib.asynccontextmanager
async def running(
    dsn: Callable[[], str], instance: str = "fleet-1", host: str = "here"
) -> AsyncGenerator[Ledger, None]:
    ledger = Ledger(dsn, host, instance, "boot-1")
    task = asyncio.create_task(ledger.run())
    try:
        yield ledger
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def fetch(dsn: str, query: str) -> list[dict[str, Any]]:
    async with connection(dsn) as database:
        return [dict(row.items()) for row in await database.fetch(query)]


async def until(condition: Callable[[], bool], limit_s: float = 10.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - whatever it is
            await asyncio.sleep(0.02)


async def test_a_row_is_written_changed_and_forgotten_with_its_history(database: Database):
    async with running(database.dsn) as ledger:
        ledger.record(make_row())
        ledger.record(down(reason="it died", updated_at=datetime.now(UTC)))
        assert await ledger.flush(10.0)
        (row,) = await fetch(database.dsn(), "select * from services")
        assert (row["status"], row["can_route"], row["pid"], row["reason"]) == ("failed", False, None, "it died")
        history = await ledger.history("alpha", 10)
        assert [(event["status"], event["pid"]) for event in history] == [("running", 10), ("failed", None)]
        ledger.forget("alpha")
        assert await ledger.flush(10.0)
        assert await fetch(database.dsn(), "select * from services") == []
        assert [event["status"] for event in await ledger.history("alpha", 10)][-1] == "removed"


async def test_measurements_alone_make_no_history_and_no_notification(database: Database):
    heard: list[str] = []
    async with running(database.dsn) as ledger, connection(database.dsn("postern_proxy")) as proxy:
        await proxy.add_listener("postern_services", lambda *news: heard.append(news[3]))
        ledger.record(make_row())
        await ledger.flush(10.0)
        await until(lambda: heard == ["alpha"])
        for latency in (2.0, 3.0):
            ledger.record(make_row(latency_ms=latency, checked_at=datetime.now(UTC), updated_at=datetime.now(UTC)))
            await ledger.flush(10.0)
        ledger.record(down())
        await ledger.flush(10.0)
        await until(lambda: heard == ["alpha", "alpha"])
        (row,) = await fetch(database.dsn(), "select latency_ms from services")
        assert row["latency_ms"] == 1.5
        assert len(await ledger.history("alpha", 10)) == 2


async def test_a_database_that_says_nothing_is_described_in_words(private_postgres: PrivatePostgres):
    """Frozen, behind a firewall that drops, on a disk that hangs: an exception's name tells an operator nothing."""
    async with running(private_postgres.dsn) as ledger:
        await ledger.wait_until_connected(10.0)
        private_postgres.freeze()
        try:
            with pytest.raises(LedgerAwayError, match="PostgreSQL: it does not answer within 5 s"):
                await ledger.recorded()
        finally:
            private_postgres.thaw()


async def test_what_happened_while_the_database_was_away_is_written_in_order(private_postgres: PrivatePostgres):
    async with running(private_postgres.dsn) as ledger:
        await ledger.wait_until_connected(10.0)
        private_postgres.stop()
        await until(lambda: not ledger.is_connected)
        assert ledger.trouble
        with pytest.raises(LedgerAwayError):
            await ledger.recorded()
        for reason in ("one", "two", "three"):
            ledger.record(down(reason=reason))
            ledger.record(down("beta", reason=reason))
        ledger.record(down(reason="three", failures=7))
        assert not await ledger.flush(0.1)
        private_postgres.start()
        assert await ledger.flush(20.0)
        assert [event["reason"] for event in await ledger.history("alpha", 10)] == ["one", "two", "three"]
        rows = await fetch(private_postgres.dsn(), "select server, failures from services order by server")
        assert [(row["server"], row["failures"]) for row in rows] == [("alpha", 7), ("beta", 0)]


async def test_a_row_that_the_database_refuses_does_not_hold_up_the_others(database: Database):
    async with running(database.dsn) as ledger:
        ledger.record(make_row("bad", status="running", checked_at=None))
        ledger.record(make_row("good"))
        assert await ledger.flush(10.0)
        assert [row["server"] for row in await fetch(database.dsn(), "select server from services")] == ["good"]


@pytest.mark.parametrize(
    "change",
    [{"checked_at": None}, {"status": "failed"}, {"status": "dancing"}, {"type": "other"}],
)
async def test_the_table_itself_refuses_rows_that_cannot_be_true(database: Database, change: dict[str, Any]):
    async with running(database.dsn) as ledger:
        ledger.record(make_row(**change))
        assert await ledger.flush(10.0)
        assert await fetch(database.dsn(), "select * from services") == []


async def test_a_server_belongs_to_one_fleet_of_a_host_until_that_lets_go(database: Database):
    async with running(database.dsn, "fleet-2") as second:
        async with running(database.dsn, "fleet-1") as first:
            await first.wait_until_connected(10.0)
            await second.wait_until_connected(10.0)
            assert await first.lock("alpha") is None
            assert await first.lock("alpha") is None
            first.record(make_row())
            await first.flush(10.0)
            assert await second.lock("alpha") == "fleet-1"
            second.record(down())
            assert await second.flush(10.0)
            assert [row["instance"] for row in await fetch(database.dsn(), "select * from services")] == ["fleet-1"]
            assert await second.recorded() == {}
            assert (await first.recorded())["alpha"].process == Identity(10, 100)
            async with running(database.dsn, "fleet-3", host="elsewhere") as third:
                await third.wait_until_connected(10.0)
                assert await third.lock("alpha") is None

        async def is_ours() -> bool:
            rows = await fetch(database.dsn(), "select instance from services where host = 'here'")
            return rows == [{"instance": "fleet-2"}]

        async with asyncio.timeout(10.0):
            while not await is_ours():  # noqa: ASYNC110 - a table
                await asyncio.sleep(0.05)


async def test_locks_are_taken_again_after_the_database_was_away(private_postgres: PrivatePostgres):
    async with running(private_postgres.dsn) as first:
        await first.wait_until_connected(10.0)
        assert await first.lock("alpha") is None
        private_postgres.restart()
        await until(lambda: not first.is_connected)
        await first.wait_until_connected(20.0)
        async with running(private_postgres.dsn, "fleet-2") as second:
            await second.wait_until_connected(10.0)
            assert await second.lock("alpha") is not None


async def test_downtime_of_a_span_is_counted_from_the_history(database: Database):
    def at(minutes: float, row: Row) -> Row:
        return replace(row, updated_at=datetime.now(UTC) - timedelta(minutes=minutes))

    async with running(database.dsn) as ledger:
        for row in (
            at(100, make_row()),
            at(50, down(reason="one")),
            at(40, make_row()),
            at(30, make_row(can_route=False, status="draining")),
            at(30, make_row(can_route=False, status="stopped", process=None)),
            at(20, make_row()),
            at(5, down(reason="two")),
            at(0.0, make_row("beta")),
        ):
            ledger.record(row)
        assert await ledger.flush(10.0)
        hour = (await ledger.downtime(3600.0))["alpha"]
        assert hour["down_s"] == pytest.approx(15 * 60, abs=5)
        assert hour["stopped_s"] == pytest.approx(10 * 60, abs=5)
        assert hour["observed_s"] == pytest.approx(3600, abs=5)
        assert hour["outages"] == 2
        short = (await ledger.downtime(120.0))["alpha"]
        assert short["down_s"] == pytest.approx(120, abs=5)
        assert short["outages"] == 0
        assert (await ledger.downtime(86_400.0))["alpha"]["observed_s"] == pytest.approx(6000, abs=5)


async def test_calls_in_flight_are_intents_without_their_row(database: Database):
    async with running(database.dsn) as ledger:
        await ledger.wait_until_connected(10.0)
        assert await ledger.calls(60.0) == {}
        assert await ledger.sessions() == {}
        async with connection(database.dsn("postern_proxy")) as proxy:
            await proxy.execute(
                """insert into audit_entries (format, kind, writer_id, seq, started_at, execution_id, server, http_method,
                   auth_method, scopes_required, scopes_held, scopes_matched, instance, prev_hash, row_hash)
                   values (1, 'intent', gen_random_uuid(), 1, now(), gen_random_uuid(), 'alpha', 'POST', 'none', '{}',
                   '{}', '{}', 'i', decode(repeat('00', 32), 'hex'), decode(repeat('00', 32), 'hex'))"""
            )
        assert await ledger.calls(60.0) == {"alpha": 1}


async def test_a_database_that_is_not_migrated_is_said_to_be_so(empty_database: Database):
    async with running(empty_database.dsn) as ledger:
        await until(lambda: "migrate" in ledger.trouble)
        assert "0002_services" in ledger.trouble
        with pytest.raises(LedgerAwayError, match="migrate"):
            await ledger.wait_until_connected(0.1)
