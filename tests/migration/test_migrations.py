"""The migration runner and the shipped migrations on real PostgreSQL."""

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from registry.database.embedded import EmbeddedPostgres
from registry.database.errors import (
    ChecksumError,
    DatabaseUnavailable,
    MigrationError,
    RolesMissingError,
    SchemaTooNewError,
)
from registry.database.initialise import APPLICATION_ROLES, OWNER, SUPERUSER
from registry.database.migrations import LOCK_KEY, ROLES, Migration, choose_pending, migrate, pending, read_migrations
from registry.database.pool import connection
from registry.migrate_cli import command
from tests.fixtures_postgres import HASTE, Database, discard, execute, fresh_base

REPOSITORY = Path(__file__).parents[2]


def migration(version: int, sql: str, name: str = "made") -> Migration:
    return Migration(version, name, sql, hashlib.sha256(sql.encode()).hexdigest())


FIRST = migration(1, "create table first (x int); grant select on first to postern_proxy", "first")
SECOND = migration(2, "create table second (x int)", "second")


async def tables(dsn: str) -> set[str]:
    async with connection(dsn) as database:
        rows = await database.fetch("select tablename from pg_tables where schemaname = 'public'")
        return {row["tablename"] for row in rows}


async def schema(dsn: str) -> list[tuple[str, ...]]:
    """Return every column, index, constraint, view and function of the schema, with its grants."""
    question = """
        select 'column', table_name, column_name, data_type, is_nullable, coalesce(column_default, '')
          from information_schema.columns where table_schema = 'public'
        union all select 'index', tablename, indexname, indexdef, '', '' from pg_indexes where schemaname = 'public'
        union all select 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', ''
          from pg_constraint where connamespace = 'public'::regnamespace
        union all select 'view', viewname, definition, '', '', '' from pg_views where schemaname = 'public'
        union all select 'function', proname, prosrc, proacl::text, proconfig::text, ''
          from pg_proc where pronamespace = 'public'::regnamespace
        union all select 'grant', grantee, table_name, privilege_type, '', '' from information_schema.table_privileges
          where table_schema = 'public'
        order by 1, 2, 3, 4, 5, 6"""
    async with connection(dsn) as database:
        return [tuple(row) for row in await database.fetch(question)]


async def test_every_shipped_migration_applies_to_an_empty_database(empty_database: Database):
    expected = [found.label for found in read_migrations()]
    assert expected
    assert await pending(empty_database.dsn()) == expected
    assert await migrate(empty_database.dsn()) == expected
    assert await pending(empty_database.dsn()) == []


async def test_each_shipped_migration_applies_when_the_earlier_ones_were_applied_before(empty_database: Database):
    shipped = read_migrations()
    for count in range(1, len(shipped) + 1):
        assert await migrate(empty_database.dsn(), shipped[:count]) == [shipped[count - 1].label]


async def test_a_second_run_changes_nothing(database: Database):
    before = await schema(database.dsn())
    assert await migrate(database.dsn()) == []
    assert await schema(database.dsn()) == before


async def test_a_database_migrated_in_steps_equals_one_migrated_at_once(empty_database: Database, database: Database):
    for found in read_migrations():
        await migrate(empty_database.dsn(), [one for one in read_migrations() if one.version <= found.version])
    assert await schema(empty_database.dsn()) == await schema(database.dsn())


async def test_any_of_our_roles_sees_what_is_pending_and_none_may_apply_it(database: Database):
    more = [*read_migrations(), migration(9999, "create table more (x int)")]
    for role in APPLICATION_ROLES:
        assert await pending(database.dsn(role), more) == ["9999_made"]
        with pytest.raises(MigrationError, match="permission denied"):
            await migrate(database.dsn(role), more)


async def test_no_application_role_may_create_or_drop_tables(database: Database):
    for role in APPLICATION_ROLES:
        for statement in ("create table mine (x int)", "drop table schema_migrations", "delete from schema_migrations"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await execute(database.dsn(role), statement)


async def test_a_file_that_was_changed_afterwards_is_refused(empty_database: Database):
    await migrate(empty_database.dsn(), [FIRST])
    tampered = replace(FIRST, sha256=migration(1, "create table other (x int)").sha256)
    for run in (migrate, pending):
        with pytest.raises(ChecksumError, match=r"0001_first .* put the change into a new migration"):
            await run(empty_database.dsn(), [tampered, SECOND])
    assert "second" not in await tables(empty_database.dsn())


async def test_a_database_from_the_future_is_refused(empty_database: Database):
    await migrate(empty_database.dsn(), [FIRST, SECOND])
    for run in (migrate, pending):
        with pytest.raises(SchemaTooNewError, match=r"0002_second.*upgrade Postern"):
            await run(empty_database.dsn(), [FIRST])


async def test_a_migration_that_fails_leaves_nothing_of_itself_and_all_before_it(empty_database: Database):
    broken = migration(2, "create table half (x int); select 1 / 0; create table whole (x int)", "broken")
    with pytest.raises(MigrationError, match="0002_broken failed, nothing of it is kept: division by zero"):
        await migrate(empty_database.dsn(), [FIRST, broken, migration(3, "create table third (x int)")])
    assert await tables(empty_database.dsn()) == {"schema_migrations", "first"}
    assert await migrate(empty_database.dsn(), [FIRST, SECOND]) == ["0002_second"]


async def test_migrators_at_once_apply_each_file_once(empty_database: Database):
    slow = migration(3, "select pg_sleep(0.2); create table third (x int)", "slow")
    applied = await asyncio.gather(*(migrate(empty_database.dsn(), [FIRST, SECOND, slow]) for _ in range(5)))
    assert sorted(applied, key=len) == [[], [], [], [], ["0001_first", "0002_second", "0003_slow"]]


async def test_a_migrator_waits_for_another_and_gives_up_with_a_word(empty_database: Database):
    async with connection(empty_database.dsn()) as other:
        await other.execute("select pg_advisory_lock($1)", LOCK_KEY)
        with pytest.raises(MigrationError, match=r"another process has been migrating this database for 0\.2 s"):
            await migrate(empty_database.dsn(), [FIRST], wait_s=0.2)
    assert await migrate(empty_database.dsn(), [FIRST]) == ["0001_first"]


async def test_missing_roles_name_the_file_for_the_dba():
    server = EmbeddedPostgres(fresh_base(), extra_settings=HASTE)
    try:
        await asyncio.to_thread(server.start)
        superuser = server.dsn(SUPERUSER)
        await execute(superuser, "drop owned by postern_auditor", "drop role postern_auditor")
        with pytest.raises(RolesMissingError, match=r"roles postern_auditor do not exist .* deploy/sql/roles\.sql"):
            await migrate(server.dsn(OWNER), [FIRST])
        assert await tables(server.dsn(OWNER)) == set()
        assert await migrate(superuser, [FIRST]) == ["0001_first"]
    finally:
        await asyncio.to_thread(discard, server)


async def test_a_database_that_is_away_is_named():
    with pytest.raises(DatabaseUnavailable, match=r"owner@127\.0\.0\.1:1/postern: it cannot be reached"):
        await migrate("postgresql://owner:secret@127.0.0.1:1/postern")


def test_the_roles_of_the_runner_the_cluster_and_the_file_are_the_same():
    text = (REPOSITORY / "registry" / "database" / "roles.sql").read_text()
    assert ROLES == APPLICATION_ROLES
    assert all(f"'{role}'" in text for role in ROLES)


def test_the_file_for_the_dba_is_the_file_that_we_run():
    shipped = REPOSITORY / "deploy" / "sql" / "roles.sql"
    assert shipped.resolve() == REPOSITORY / "registry" / "database" / "roles.sql"


def test_migration_files_are_read_in_order_with_their_digest(tmp_path: Path):
    (tmp_path / "0010_later.sql").write_text("select 2")
    (tmp_path / "0002_sooner.sql").write_text("select 1")
    (tmp_path / "README").write_text("not one")
    found = read_migrations(tmp_path)
    assert [one.label for one in found] == ["0002_sooner", "0010_later"]
    assert found[0].sha256 == hashlib.sha256(b"select 1").hexdigest()


@pytest.mark.parametrize("name", ["1_short.sql", "00010_long.sql", "0001-dash.sql", "0001_Upper.sql", "schema.sql"])
def test_a_file_with_another_name_is_refused(tmp_path: Path, name: str):
    (tmp_path / name).write_text("select 1")
    with pytest.raises(MigrationError, match="NNNN_name"):
        read_migrations(tmp_path)


def test_two_files_with_one_number_are_refused(tmp_path: Path):
    (tmp_path / "0001_a.sql").write_text("select 1")
    (tmp_path / "0001_b.sql").write_text("select 1")
    with pytest.raises(MigrationError, match="two migrations have one number: 0001_"):
        read_migrations(tmp_path)


@pytest.mark.anyio
async def test_a_user_who_may_not_read_the_log_is_told_who_may(database: Database) -> None:
    await execute(database.dsn(OWNER), "revoke select on schema_migrations from postern_auditor")
    with pytest.raises(MigrationError, match="migrate as the owner"):
        await pending(database.dsn("postern_auditor"))


@given(st.sets(st.integers(1, 20)), st.sets(st.integers(1, 20)))
def test_what_is_pending_and_what_is_applied_make_the_whole_in_order(shipped: set[int], applied: set[int]):
    wanted = [migration(version, f"select {version}") for version in sorted(shipped)]
    known = {one.version: (one.name, one.sha256) for one in wanted if one.version in applied}
    left = choose_pending(wanted, known)
    assert [one.version for one in left] == sorted(shipped - applied)


def test_command_migrates_the_database_that_it_is_given_or_finds(empty_database, tmp_path) -> None:
    """Every message about an older database sends its reader here."""
    found = CliRunner().invoke(command, ["--state-dir", str(tmp_path)], env={"DATABASE_URL": None})
    assert (found.exit_code, "dsn-owner" in found.output) == (3, True)
    refused = CliRunner().invoke(command, ["--dsn", empty_database.dsn("postern_proxy")])
    assert (refused.exit_code, "as the owner" in refused.output) == (3, True)
    (tmp_path / "dsn-owner").write_text(f"{empty_database.dsn()}\n", encoding="utf-8")
    done = CliRunner().invoke(command, ["--state-dir", str(tmp_path)], env={"DATABASE_URL": None})
    labels = [migration.label for migration in read_migrations()]
    assert done.exit_code == 0
    assert done.output.splitlines()[:-1] == [f"applied {label}" for label in labels]
    again = CliRunner().invoke(command, [], env={"DATABASE_URL": empty_database.dsn()})
    assert (again.exit_code, "applied" in again.output, "up to date" in again.output) == (0, False, True)
