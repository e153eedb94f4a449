"""The auditor's one query: every request that reached a server, and the exact scopes that let it through."""

import re
from pathlib import Path

import pytest

from proxy.audit.record import Intent, Row, Scopes, Status
from proxy.audit.writer import AuditWriter
from registry.database.pool import connection
from tests.fixtures_postgres import Database
from tests.unit.audit.samples import call, outcome, refusal, request

DEPLOY_SQL = Path(__file__).parents[2] / "deploy" / "sql"


async def write_one_of_each(database: Database) -> None:
    writer = await AuditWriter.open(database.dsn("postern_proxy"), instance="view")
    intent, row = call()
    await writer.write_intent(intent)
    await writer.write_row(row)
    await writer.write_row(refusal())
    unreachable = outcome(Status.FAILED, decision="upstream.unreachable", http_status=503, upstream_us=None)
    await writer.write_row(Row(request(tool="unreachable"), unreachable))
    await writer.write_row(Row(request(tool="died"), outcome(Status.INTERRUPTED, upstream_us=None)))
    await writer.write_row(Row(request(tool="slow"), outcome(Status.TIMEOUT, http_status=504)))
    await writer.write_row(Row(request("other", scopes=Scopes((), (), ())), outcome()))
    await writer.write_intent(Intent(request(tool="running")))
    await writer.aclose()


async def test_reached_holds_what_the_server_got_and_only_that(database: Database) -> None:
    await write_one_of_each(database)
    async with connection(database.dsn("postern_auditor")) as auditor:
        found = await auditor.fetch(
            "select tool, status, certain, scopes_matched from audit_reached where server = 'notes' order by tool"
        )
    assert [tuple(row) for row in found] == [
        ("died", "interrupted", False, ["notes:write"]),
        ("echo", "success", True, ["notes:write"]),
        ("running", "open", False, ["notes:write"]),
        ("slow", "timeout", True, ["notes:write"]),
    ]


async def test_the_queries_for_auditors_run_as_the_auditor(database: Database) -> None:
    await write_one_of_each(database)
    statements = (DEPLOY_SQL / "auditor_queries.sql").read_text().split(";")
    async with connection(database.dsn("postern_auditor")) as auditor:
        ran = [await auditor.fetch(each) for each in statements if each.strip()]
    assert len(ran) >= 5
    assert ran[0]


SELECT_REACHED = re.compile(r"select [^;\"]*?from audit_reached[^;\"]*")


@pytest.mark.parametrize("page", ["README.md", "docs/audit.md"])
async def test_the_query_of_the_page_runs_as_it_is_printed(database: Database, page: str) -> None:
    """For another server than the page's, the answer has the columns that the page shows."""
    await write_one_of_each(database)
    text = (DEPLOY_SQL.parents[1] / page).read_text()
    query = SELECT_REACHED.search(text)
    assert query is not None
    async with connection(database.dsn("postern_auditor")) as auditor:
        found = await auditor.fetch(re.sub(r"server = '\w+'", "server = 'notes'", query[0]))
    assert len(found) == 4
    shown = next(line for line in text[query.end() :].splitlines() if " | certain" in line or "certain |" in line)
    assert [name.strip() for name in shown.split("|")] == list(found[0].keys())


async def test_a_server_and_a_time_are_found_by_index(database: Database) -> None:
    async with connection(database.dsn("postern_auditor")) as auditor:
        await auditor.execute("set enable_seqscan = off")
        plan = await auditor.fetch(
            "explain select * from audit_reached where server = 'notes' and started_at > now() - interval '1 day'"
        )
    text = "\n".join(row[0] for row in plan)
    assert "server_started_at_idx" in text


async def test_there_are_at_most_six_indexes(database: Database) -> None:
    async with connection(database.dsn("postern_auditor")) as auditor:
        for table in ("audit_log", "audit_intents"):
            assert await auditor.fetchval("select count(*) from pg_indexes where tablename = $1", table) <= 6
