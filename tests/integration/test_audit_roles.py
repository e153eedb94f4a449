"""What each database role must not do, by trying it (SPEC A6, A8)."""

import asyncpg
import pytest

from proxy.audit.writer import AuditWriter
from registry.database.pool import connection
from tests.fixtures_postgres import Database, execute, run_apart
from tests.unit.audit.samples import call

TABLES = ("audit_entries", "audit_intents", "audit_log", "audit_writers", "audit_checkpoints")
DENIED = (asyncpg.InsufficientPrivilegeError,)


@pytest.fixture(scope="module")
def log(module_database: Database) -> Database:
    async def write() -> None:
        writer = await AuditWriter.open(module_database.dsn("postern_proxy"), instance="roles")
        intent, row = call()
        await writer.write_intent(intent)
        await writer.write_row(row)
        await writer.aclose()

    run_apart(write())
    return module_database


def attempts(table: str) -> list[str]:
    return [
        f"delete from {table}",
        f"truncate {table}",
        f"drop table {table} cascade",
        f"alter table {table} disable trigger all",
        f"alter table {table} add column note text",
        f"create trigger t before insert on {table} for each row execute function suppress_redundant_updates_trigger()",
        f"create rule r as on insert to {table} do instead nothing",
        f"alter table {table} owner to postern_proxy",
    ]


CHANGES = [
    "update audit_log set subject = 'mallory'",
    "update audit_intents set subject = 'mallory'",
    "update audit_entries set subject = 'mallory'",
    "update audit_writers set instance = 'other'",
    "update audit_checkpoints set statement = ''",
    "insert into audit_log select * from audit_log on conflict (started_at, execution_id) do update set subject = 'x'",
    "select * from audit_log for update",
    "delete from audit_log_default",
    "select * from audit_log_default",
    "create table audit_log_1999 partition of audit_log for values from ('1999-01-01') to ('2000-01-01')",
    "alter table audit_log detach partition audit_log_default",
    "create or replace view audit_reached as select 1",
    "create function audit_ensure_partitions(timestamptz, timestamptz) returns int language sql as 'select 1'",
    "alter function audit_ensure_partitions(timestamptz, timestamptz, text) security invoker",
    "set session_replication_role = replica",
    "copy audit_log to program 'cat'",
]


@pytest.mark.parametrize("role", ["postern_proxy", "postern_auditor", "postern_operator"])
@pytest.mark.parametrize("statement", [*CHANGES, *(each for table in TABLES for each in attempts(table))])
async def test_no_role_changes_the_trail(log: Database, role: str, statement: str) -> None:
    with pytest.raises(DENIED):
        await execute(log.dsn(role), statement)


@pytest.mark.parametrize("role", ["postern_proxy", "postern_auditor", "postern_operator"])
async def test_no_role_may_become_the_owner(log: Database, role: str) -> None:
    async with connection(log.dsn(role)) as session:
        assert not await session.fetchval("select pg_has_role(current_user, 'postern_owner', 'member')")


@pytest.mark.parametrize("table", TABLES)
async def test_the_proxy_grants_itself_nothing(log: Database, table: str) -> None:
    async with connection(log.dsn("postern_proxy")) as proxy:
        await proxy.execute(f"grant all on {table} to postern_proxy")  # only a warning, by the standard
        for privilege in ("update", "delete", "truncate", "references", "trigger"):
            assert not await proxy.fetchval("select has_table_privilege($1, $2)", table, privilege)


@pytest.mark.parametrize("role", ["postern_auditor", "postern_operator"])
@pytest.mark.parametrize("table", TABLES)
async def test_readers_do_not_write(log: Database, role: str, table: str) -> None:
    with pytest.raises(DENIED):
        await execute(log.dsn(role), f"insert into {table} default values")


@pytest.mark.parametrize("table", ["audit_entries", "audit_intents", "audit_log", "audit_checkpoints", "audit_reached"])
async def test_an_operator_reads_no_payload(log: Database, table: str) -> None:
    with pytest.raises(DENIED):
        await execute(log.dsn("postern_operator"), f"select * from {table}")


async def test_an_operators_view_has_no_payload_and_leaks_none_through_a_function(log: Database) -> None:
    async with connection(log.dsn("postern_operator")) as operator:
        (row,) = await operator.fetch("select * from audit_metadata")
        assert not {"input", "output", "input_sha256", "output_sha256", "hooks", "error", "reason"} & set(row.keys())
        with pytest.raises(DENIED):
            await operator.execute("create function leak(text) returns bool language sql as 'select true'")


async def test_an_auditor_reads_payloads(log: Database) -> None:
    async with connection(log.dsn("postern_auditor")) as auditor:
        assert await auditor.fetchval("select input from audit_log") == '{"text":"hello"}'


async def test_public_may_not_create_partitions(log: Database) -> None:
    for role in ("postern_auditor", "postern_operator"):
        with pytest.raises(DENIED):
            await execute(log.dsn(role), "select audit_ensure_partitions(now(), now(), 'day')")


@pytest.mark.parametrize(
    "arguments",
    ["now(), now(), 'year'", "now() - interval '3 years', now(), 'day'", "now(), now() + interval '3 years', 'day'"],
)
async def test_the_proxy_creates_a_bounded_number_of_partitions(log: Database, arguments: str) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError):
        await execute(log.dsn("postern_proxy"), f"select audit_ensure_partitions({arguments})")


async def test_a_temporary_table_does_not_deceive_the_partition_function(database: Database) -> None:
    async with connection(database.dsn("postern_proxy")) as proxy:
        await proxy.execute("create temp table audit_log (started_at timestamptz) partition by range (started_at)")
        await proxy.execute("create temp table audit_log_default partition of audit_log default")
        made = await proxy.fetchval(
            "select public.audit_ensure_partitions(now() - interval '5 months', now() - interval '4 months', 'month')"
        )
        assert made == 4
        inherited = "select count(*) from pg_inherits where inhparent = 'public.audit_log'::regclass"
        assert await proxy.fetchval(inherited) == 6


async def test_partitions_by_day_take_rows_out_of_the_default(database: Database) -> None:
    writer = await AuditWriter.open(database.dsn("postern_proxy"), instance="default")
    async with connection(database.dsn("postern_owner")) as owner:
        at = await owner.fetchval("select date_trunc('month', now() - interval '5 months') + interval '1 hour'")
        intent, row = call(started=at)
        await writer.write_intent(intent)
        await writer.write_row(row)
        assert await owner.fetchval("select count(*) from audit_log_default") == 1
        await owner.execute("select audit_ensure_partitions($1, $1::timestamptz + interval '2 days', 'day')", at)
        assert await owner.fetchval("select count(*) from audit_log_default") == 0
        assert await owner.fetchval("select count(*) from audit_log where started_at = $1", at) == 1
        assert await owner.fetchval("select count(*) from audit_intents where started_at = $1", at) == 1
    await writer.aclose()


async def test_creating_partitions_waits_for_no_reader(database: Database) -> None:
    """A long read of the log must not stop the writers by way of the partition function."""
    writer = await AuditWriter.open(database.dsn("postern_proxy"), instance="readers")
    async with connection(database.dsn("postern_auditor")) as auditor, auditor.transaction():
        await auditor.fetch("select * from audit_log")
        async with connection(database.dsn("postern_proxy")) as proxy:
            with pytest.raises(asyncpg.LockNotAvailableError):
                await proxy.execute("select audit_ensure_partitions(now(), now() + interval '9 months', 'month')")
        intent, row = call()
        await writer.write_intent(intent)
        await writer.write_row(row)
    await writer.aclose()
