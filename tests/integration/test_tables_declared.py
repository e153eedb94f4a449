"""Declared tables are there as declared, or the boot stops (SPEC C4). Real PostgreSQL."""

import asyncio
import signal
from typing import Any

import pytest

from registry.database.pool import connection
from registry.database.tables import TablesError, TablesReport, check_tables, require_tables
from registry.models import Fleet, Server, Table
from tests.fakes.rug_pull import RugPull
from tests.fixtures_postgres import execute, run_apart
from tests.integration.contracts_sidecar import Guarded, guarded
from tests.sidecar import http, wait_for

COLUMNS = {"id": "uuid not null", "body": "text", "tags": "text[]", "price": "numeric(8, 2)", "at": "timestamptz"}
MAKE = "create table notes (id uuid primary key, body text, tags text[], price numeric(8,2), at timestamptz, extra int)"


def fleet(*tables: dict[str, Any]) -> Fleet:
    server = Server(name="notes", tables=tuple(Table.model_validate(table) for table in tables))
    return Fleet(version=1, servers={"notes": server})


def no_reference(name: str) -> str:
    raise AssertionError(f"{name} is resolved")


async def check(database, *tables: dict[str, Any]) -> TablesReport:
    return await check_tables(fleet(*tables), database.dsn(), no_reference)


async def test_table_that_is_as_declared_is_validated(database) -> None:
    """Columns beyond the declared ones are the server's own affair; types may be written in any way."""
    await execute(database.dsn(), MAKE)
    report = await check(database, {"name": "notes", "columns": COLUMNS})
    assert [finding.state for finding in report.findings] == ["validated"]
    other = {"id": "UUID", "price": "numeric", "at": "timestamp with time zone", "extra": "integer"}
    assert (await check(database, {"name": "public.notes", "columns": other})).halts == ()


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"missing": "text"}, "column missing does not exist"),
        ({"body": "integer"}, "column body is text, not integer"),
        ({"price": "numeric(9,2)"}, "column price is numeric(8,2), not numeric(9,2)"),
        ({"body": "text not null"}, "column body may be null"),
        ({"tags": "text"}, "column tags is text[], not text"),
        ({"body": "no_such_type"}, "column body is text, not no_such_type"),
        ({"body": "text; drop table notes"}, "body"),
        ({"body": ""}, "column body is text, not a type"),
    ],
)
async def test_table_that_is_not_as_declared_is_an_error(database, columns, said) -> None:
    await execute(database.dsn(), MAKE)
    report = await check(database, {"name": "notes", "columns": columns})
    assert said in report.findings[0].reason
    assert report.halts
    assert (await check(database, {"name": "notes", "columns": {"id": "uuid"}})).halts == ()


async def test_missing_table_halts_in_strict_and_is_told_in_warn(database) -> None:
    tables = [{"name": "a"}, {"name": "b", "mode": "warn"}, {"name": "c", "mode": "skip"}]
    report = await check(database, *tables)
    assert [finding.state for finding in report.findings if finding.table != "c"] == ["error", "error"]
    assert [finding.table for finding in report.halts] == ["a"]
    with pytest.raises(TablesError, match=r"table a \(strict\): it does not exist"):
        await require_tables(fleet(*tables), database.dsn(), no_reference)
    assert await require_tables(fleet(*tables[1:]), database.dsn(), no_reference)


async def test_missing_table_is_created_where_configured_and_then_checked(database) -> None:
    table = {"name": "notes", "columns": COLUMNS, "create": MAKE}
    report = await check(database, table)
    assert [finding.state for finding in report.findings] == ["created"]
    assert [finding.state for finding in (await check(database, table)).findings] == ["validated"]
    assert report.lines() == ["declared tables: 0 validated, 1 created, 0 error"]


@pytest.mark.parametrize(
    "create", ["create table other (id int)", "create tabel notes ()", "create table notes (id int)"]
)
async def test_creation_that_does_not_make_the_table_is_an_error(database, create) -> None:
    report = await check(database, {"name": "notes", "columns": COLUMNS, "create": create})
    assert report.halts
    assert report.findings[0].reason


async def test_two_workers_that_make_the_same_table_make_it_once(database) -> None:
    """Both find it missing; one makes it, the other finds it made: nobody halts, and nothing is done twice."""
    table = {"name": "notes", "create": "create table notes (id int); insert into notes values (1)"}
    reports = await asyncio.gather(*(check(database, table) for _ in range(4)))
    states = sorted(finding.state for report in reports for finding in report.findings)
    assert states == ["created", "validated", "validated", "validated"]
    async with connection(database.dsn()) as lent:
        assert await lent.fetchval("select count(*) from notes") == 1


async def test_creation_that_fails_leaves_nothing_behind(database) -> None:
    table = {"name": "notes", "create": "create table notes (id int); insert into notes values ('x')"}
    assert (await check(database, table)).halts
    assert "it does not exist" in (await check(database, {"name": "notes"})).findings[0].reason


async def test_role_without_the_right_to_create_is_told(database) -> None:
    table = {"name": "notes", "create": "create table notes (id int)"}
    report = await check_tables(fleet(table), database.dsn("postern_operator"), no_reference)
    assert "permission denied" in report.findings[0].reason
    assert "give it a `database:` whose user may do that" in report.findings[0].reason


@pytest.mark.parametrize("name", ["no table", "a.b.c", "x; drop table y", "", "1"])
async def test_name_that_is_none_is_an_error(database, name) -> None:
    assert (await check(database, {"name": name})).halts


async def test_index_is_no_table(database) -> None:
    await execute(database.dsn(), "create table t (id int primary key)")
    assert (await check(database, {"name": "t_pkey"})).halts


async def test_table_may_be_in_another_database(database, empty_database) -> None:
    await execute(empty_database.dsn(), "create table far (id int)")
    table = {"name": "far", "columns": {"id": "int"}, "database": "env:FAR"}
    report = await check_tables(fleet(table), database.dsn(), {"env:FAR": empty_database.dsn()}.__getitem__)
    assert [finding.state for finding in report.findings] == ["validated"]


async def test_database_that_is_away_is_an_error_of_each_of_its_tables() -> None:
    tables = [{"name": "a"}, {"name": "b", "mode": "warn"}]
    report = await check_tables(fleet(*tables), "postgresql://u:hunter2@127.0.0.1:9/x", no_reference)
    assert [finding.state for finding in report.findings] == ["error", "error"]
    assert "hunter2" not in str(report)


def test_proxy_neither_starts_nor_reloads_without_a_strict_table(tmp_path, database) -> None:
    """Exit code 3 and the report; in warn mode it starts without it; a reload that wants it leaves the old fleet."""
    with (
        RugPull() as rug,
        guarded(tmp_path / "s", database.dsn("postern_proxy"), rug, lock=False, start=False) as sidecar,
    ):
        section = sidecar.servers["notes"]
        section["tables"] = [{"name": "notes", "columns": {"id": "uuid"}}]
        sidecar.write_registry()
        said = sidecar.fails_to_start()
        assert "notes: table notes (strict): it does not exist" in said
        section["tables"][0]["mode"] = "warn"
        sidecar.write_registry()
        sidecar.start_proxy()
        assert "table notes (warn): it does not exist" in sidecar.log("proxy")

        section["tables"][0]["mode"] = "strict"
        section["tools"] = {"table": {}}
        sidecar.write_registry()
        _hang_up(sidecar)
        wait_for(lambda: "refused" in _registry(sidecar), "the refusal is visible")
        assert "the registry was not reloaded" in (log := sidecar.log("proxy"))
        assert log.count("table notes (strict): it does not exist") > 1
        assert "delete_note" in sidecar.tools()
        run_apart(execute(database.dsn(), "create table notes (id uuid)"))
        _hang_up(sidecar)
        wait_for(lambda: _registry(sidecar) == "current", "with the table it applies")
        assert sidecar.tools() == {"table"}


def _hang_up(sidecar: Guarded) -> None:
    sidecar.processes["proxy"].send_signal(signal.SIGHUP)


def _registry(sidecar: Guarded) -> str:
    return http("GET", f"{sidecar.url}/readyz").json()["registry"]
