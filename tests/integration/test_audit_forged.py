"""What the proxy's role, an owner or a superuser puts into the tables neither hides anything from `verify` nor stops it."""

import asyncio
import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.audit.cli import command
from proxy.audit.findings import Code
from proxy.audit.notary import Notary
from proxy.audit.query import PAGE
from proxy.audit.reconcile import close_interrupted
from proxy.audit.record import Intent
from proxy.audit.verify import MOST_WITHOUT_PLACE
from proxy.audit.writer import AuditWriter
from registry.database.initialise import SUPERUSER
from registry.database.pool import connection
from tests.fixtures_postgres import Database, run_apart
from tests.integration.audit_trail import SIGNER, check, rehash, tamper, write_calls
from tests.unit.audit.samples import call, refusal, request

FORGED = """
    insert into audit_entries
    select (jsonb_populate_record(null::audit_entries, to_jsonb(e) || $1::jsonb
                                  || jsonb_build_object('execution_id', gen_random_uuid()))).*
      from (select * from audit_entries where seq = 2 limit 1) e, generate_series(1, $2)"""


async def forge(database: Database, changes: str, role: str = "postern_proxy", *before: str, copies: int = 1) -> None:
    """Insert copies of entry 2 with other values."""
    async with connection(database.dsn(SUPERUSER)) as superuser:
        for statement in before:
            await superuser.execute(statement)
    async with connection(database.dsn(role)) as own:
        await own.execute(FORGED, changes, copies)


async def test_a_signed_entry_rewritten_before_a_dead_writer_is_closed_is_found(database: Database) -> None:
    """Who closes a dead writer signs what the database has then; what the writer itself signed still counts."""
    dead = await AuditWriter.open(
        database.dsn("postern_proxy"), instance="dead", notary=Notary(SIGNER, None, every_s=0.01)
    )
    await dead.write_row(refusal())
    async with connection(database.dsn()) as owner:
        for _ in range(500):
            if await owner.fetchval("select count(*) from audit_checkpoints"):
                break
            await asyncio.sleep(0.01)
        dead.store.drop()
        await owner.execute("update audit_log set subject = 'mallory'")
        await rehash(owner, dead)
    closer = await AuditWriter.open(database.dsn("postern_proxy"), instance="closer", notary=Notary(SIGNER, None))
    async with connection(database.dsn("postern_proxy")) as own:
        for _ in range(500):  # until PostgreSQL has noticed that the session with the lock is gone
            await close_interrupted(own, closer)
            if await own.fetchval("select count(*) from audit_writers where event = 'closed'"):
                break
            await asyncio.sleep(0.01)
    await closer.aclose()
    report = await check(database)
    assert {each.code for each in report.findings} == {Code.REWRITTEN}
    assert {(each.writer, each.seq) for each in report.findings} == {(dead.writer_id, 1)}
    await dead.aclose()


async def test_much_rubbish_does_not_hide_what_was_altered(database: Database) -> None:
    await write_calls(database, 3)
    async with connection(database.dsn("postern_proxy")) as proxy:
        await proxy.execute("""
            insert into audit_checkpoints (kind, at, statement, key_id, signature)
            select 'prune', now(), '{}', 'x', repeat('x', 64)::bytea from generate_series(1, 150)""")
    await tamper(database, "update audit_log set subject = 'mallory' where seq = 4")
    report = await check(database)
    assert [each.code for each in report.findings] == [Code.BAD_SIGNATURE] * 100 + [Code.ALTERED]
    assert report.found == 151
    assert report.first is not None
    assert (report.first.code, report.first.seq) == (Code.ALTERED, 4)


async def test_many_entries_without_a_place_do_not_hide_what_was_altered_in_their_chain(database: Database) -> None:
    await write_calls(database, 3)
    drop = "alter table audit_entries drop constraint audit_entries_seq_check"
    await forge(database, '{"seq": 0}', SUPERUSER, drop, copies=MOST_WITHOUT_PLACE)
    await tamper(database, "update audit_log set subject = 'mallory' where seq = 4")
    report = await check(database)
    assert [each.code for each in report.findings] == [Code.INSERTED] * 100 + [Code.ALTERED]
    assert report.found == MOST_WITHOUT_PLACE + 1


async def test_every_finding_is_counted_however_many_there_are(database: Database) -> None:
    """The proxy's own role may insert second entries; each is one, and does not have its hash."""
    await write_calls(database, 3)
    await forge(database, "{}", copies=1_200)
    assert (await check(database)).found == 2 * 1_200


OUT_OF_PLACE = [
    ('{"seq": 0}', "drop constraint audit_entries_seq_check"),
    ('{"seq": -5}', "drop constraint audit_entries_seq_check"),
    ('{"seq": null}', "alter seq drop not null"),
    ('{"writer_id": null}', "alter writer_id drop not null"),
]


@pytest.mark.parametrize(("changes", "first"), OUT_OF_PLACE, ids=[changes for changes, _ in OUT_OF_PLACE])
async def test_a_row_outside_of_every_chain_is_found(database: Database, changes: str, first: str) -> None:
    await write_calls(database, 3)
    await forge(database, changes, SUPERUSER, f"alter table audit_entries {first}")
    assert [each.code for each in (await check(database)).findings] == [Code.INSERTED]


@pytest.mark.parametrize("made", ["null", "''", "'x'", "sha512('x')"])
@pytest.mark.parametrize("column", ["prev_hash", "row_hash"])
async def test_a_hash_of_another_length_is_an_alteration(database: Database, column: str, made: str) -> None:
    await write_calls(database, 3)
    await forge(
        database,
        "{}",
        SUPERUSER,
        f"alter table audit_entries alter {column} drop not null",
        f"alter table audit_entries drop constraint audit_entries_{column}_check",
        f"update audit_log set {column} = {made} where seq = 4",
        copies=0,
    )
    report = await check(database)
    assert (Code.ALTERED, 4) in {(each.code, each.seq) for each in report.findings}


async def test_the_largest_number_does_not_stop_verification(database: Database) -> None:
    await write_calls(database, 3)
    await forge(database, f'{{"seq": {2**63 - 1}}}')
    report = await check(database)
    assert [each.code for each in report.findings] == [Code.REMOVED, Code.ALTERED]
    assert "entries 7 to 9223372036854775806 are missing" in report.findings[0].message


TIMES = ["infinity", "-infinity", "4000-01-01 BC", "12000-01-01"]


@pytest.mark.parametrize("time", TIMES)
async def test_a_time_that_no_calendar_has_does_not_stop_verification(database: Database, time: str) -> None:
    await write_calls(database, 3)
    await forge(database, f'{{"started_at": "{time}"}}')
    assert {each.code for each in (await check(database)).findings} == {Code.INSERTED, Code.ALTERED}


HIDING = {
    "row level security": (
        "alter table audit_log enable row level security",
        "create policy hide on audit_log for select to postern_auditor using (seq <> 4)",
    ),
    "a view in the table's place": (
        "alter table audit_log rename to audit_log_true",
        "create view audit_log as select * from audit_log_true where seq <> 4",
        "grant select on audit_log to postern_auditor",
    ),
}


@pytest.mark.parametrize("statements", HIDING.values(), ids=HIDING.keys())
async def test_rows_hidden_from_their_readers_are_told(database: Database, statements: tuple[str, ...]) -> None:
    await write_calls(database, 3)
    async with connection(database.dsn()) as owner:
        for statement in statements:
            await owner.execute(statement)
    assert [each.code for each in (await check(database)).findings] == [Code.HIDDEN]


def run(database: Database, *args: str, code: int = 0) -> Result:
    result = CliRunner().invoke(command, ["--dsn", database.dsn("postern_auditor"), *args])
    assert result.exit_code == code, result.output
    return result


def test_strange_times_stop_no_reader(database: Database, tmp_path: Path) -> None:
    run_apart(write_calls(database, 2))
    for time in TIMES:
        run_apart(forge(database, f'{{"started_at": "{time}", "completed_at": "{time}"}}'))
    for args in (("query",), ("query", "--oldest-first"), ("tail",)):
        assert len(run(database, *args).stdout.splitlines()) == 6
    run(database, "export", "-o", str(tmp_path / "log.csv"))
    with (tmp_path / "log.csv").open(newline="") as file:
        years = [row["started_at"][:4] for row in csv.DictReader(file)]
    now = str(datetime.now(UTC).year)
    assert years == ["0001", "0001", now, now, "9999", "9999"]


def test_pages_go_on_behind_strange_times(database: Database) -> None:
    run_apart(write_calls(database, 1))
    for time in TIMES:
        run_apart(forge(database, f'{{"started_at": "{time}"}}', copies=PAGE // 2 + 1))
    for args in ((), ("--oldest-first",)):
        found = run(database, "query", "--all", *args).stdout.splitlines()
        assert len(found) == len(set(found)) == len(TIMES) * (PAGE // 2 + 1) + 1


def test_gaps_print_no_control_characters(database: Database) -> None:
    old = Intent(request(tool="\x1b[2Jx\n0 gaps", started=datetime.now(UTC) - timedelta(hours=1)))

    async def leave_open() -> None:
        writer = await AuditWriter.open(database.dsn("postern_proxy"), instance="one")
        await writer.write_intent(old)
        await writer.write_row(call()[1])
        await writer.aclose()

    run_apart(leave_open())
    told = run(database, "gaps").output
    assert "\\x1b[2Jx\\n0 gaps" in told
    assert len(told.splitlines()) == 2


@pytest.mark.parametrize(
    "args",
    [
        ("query", "--since", "999999w"),
        ("verify", "--most", "-3"),
        ("prune", "--keep", "999999d", "--dry-run"),
        ("verify", "--most", "0"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(database: Database, args: tuple[str, ...]) -> None:
    told = run(database, *args, code=2).output
    assert "Invalid value for" in told
    assert args[1] in told


def test_an_id_of_a_distant_year_is_not_found(database: Database) -> None:
    assert "no request" in run(database, "show", "ffffffff-ffff-7fff-8fff-ffffffffffff", code=1).output


def test_strange_numbers_do_not_stop_statistics(database: Database) -> None:
    run_apart(write_calls(database, 1))
    run_apart(
        forge(database, f'{{"repeats": {2**63 - 1}, "duration_us": {2**63 - 1}, "upstream_us": {-(2**63)}}}', copies=2)
    )
    assert f'"requests":{2**63 - 1}' in run(database, "stats").stdout


@pytest.mark.parametrize(
    "changes",
    [
        '{"started_at": "12000-01-01"}',
        '{"started_at": "4000-01-01 BC"}',
        '{"completed_at": "12000-01-01"}',
        '{"scopes_held": [["a"], ["b"]]}',
    ],
)
async def test_a_forged_intent_keeps_no_other_from_its_row(database: Database, changes: str) -> None:
    dead = await AuditWriter.open(database.dsn("postern_proxy"), instance="dead")
    await dead.write_intent(call()[0])
    await dead.aclose()
    outcome = '{"kind": "intent", "status": null, "seq": 1, "writer_id": "' + str(dead.writer_id) + '"}'
    await write_calls(database, 1)
    async with connection(database.dsn("postern_proxy")) as own:
        await own.execute(FORGED.replace("|| $1::jsonb", "|| $1::jsonb || $3::jsonb"), outcome, 1, changes)
        closer = await AuditWriter.open(database.dsn("postern_proxy"), instance="closer")
        await close_interrupted(own, closer)
        await closer.aclose()
        closed = await own.fetchval("select count(*) from audit_log where status = 'interrupted'")
    assert closed == (2 if "completed" in changes else 1)
