"""`verify` finds what was altered, removed, inserted, re-ordered or truncated, and names the first bad entry."""

import asyncio
import json
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from proxy.audit.checkpoint import Checkpoint, append_to_file, read_checkpoint, read_file
from proxy.audit.findings import Code
from proxy.audit.gaps import find_gaps
from proxy.audit.keys import PublicKeys, Signer
from proxy.audit.notary import Notary
from proxy.audit.reconcile import close_interrupted
from proxy.audit.record import Payload, Row
from proxy.audit.writer import AuditWriter
from registry.database.pool import connection
from tests.fixtures_postgres import Database
from tests.integration.audit_trail import SIGNER, check, rehash, tamper, write_calls
from tests.unit.audit.samples import call, outcome, refusal, request


async def test_an_untouched_trail_fits(database: Database, tmp_path: Path) -> None:
    await write_calls(database, 20, tmp_path / "checkpoints")
    report = await check(database, read_file(tmp_path / "checkpoints"))
    assert report.findings == []
    assert (report.entries, report.writers, report.checkpoints, report.uncovered) == (40, 1, 1, 0)


ALTERATIONS = {
    "a scope": "update audit_log set scopes_matched = '{admin}' where seq = 10",
    "a subject": "update audit_log set subject = 'mallory' where seq = 10",
    "a status": "update audit_log set status = 'denied' where seq = 10",
    "a payload": """update audit_log set input = '{"text":"hellO"}' where seq = 10""",
    "null to empty": "update audit_log set error = '' where seq = 10",
    "a microsecond": "update audit_log set completed_at = completed_at + interval '1 microsecond' where seq = 10",
    "its own hash": "update audit_log set row_hash = sha256('x') where seq = 10",
    "an array's bounds": "update audit_log set scopes_required = '[2:2]={notes:read}' where seq = 10",
}


@pytest.mark.parametrize("statement", ALTERATIONS.values(), ids=ALTERATIONS.keys())
async def test_an_altered_row_is_named(database: Database, statement: str) -> None:
    await write_calls(database, 10)
    await tamper(database, statement)
    report = await check(database)
    assert report.first is not None
    assert (report.first.code, report.first.seq, report.first.kind) == (Code.ALTERED, 10, "row")


async def test_large_entries_are_not_held_in_memory(database: Database) -> None:
    """What verification holds does not grow with what it reads, neither by number nor by size."""
    text = '"' + "x" * 500_000 + '"'
    writer = await AuditWriter.open(database.dsn("postern_proxy"), instance="large")
    for _ in range(40):
        await writer.write_row(Row(request(input=Payload(text, len(text), b"i" * 32)), outcome()))
    await writer.aclose()
    tracemalloc.start()
    try:
        report = await check(database)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (report.entries, report.findings) == (40, [])
    assert peak < 8_000_000, "of 20 MB"


async def test_an_altered_intent_is_named(database: Database) -> None:
    await write_calls(database, 10)
    await tamper(database, "update audit_intents set tool = 'other' where seq = 9")
    report = await check(database)
    assert report.first is not None
    assert (report.first.code, report.first.seq, report.first.kind) == (Code.ALTERED, 9, "intent")


async def test_a_removed_row_is_named(database: Database) -> None:
    await write_calls(database, 10)
    await tamper(database, "delete from audit_log where seq = 10")
    report = await check(database)
    assert report.first is not None
    assert (report.first.code, report.first.seq) == (Code.REMOVED, 11)
    assert "entry 10 is missing" in report.first.message


async def test_a_removed_first_entry_is_found(database: Database) -> None:
    await write_calls(database, 3)
    await tamper(database, "delete from audit_intents where seq = 1")
    report = await check(database)
    assert [each.code for each in report.findings] == [Code.REMOVED]


async def test_reordered_rows_are_found(database: Database) -> None:
    await write_calls(database, 10)
    await tamper(database, "update audit_log set seq = case seq when 4 then 6 else 4 end where seq in (4, 6)")
    report = await check(database)
    assert {each.code for each in report.findings} >= {Code.ALTERED, Code.UNLINKED}
    assert report.findings[0].seq == 4


async def test_another_row_put_in_place_of_a_removed_one_is_named(database: Database) -> None:
    await write_calls(database, 10)
    await tamper(database, "delete from audit_log where seq = 10", _COPY_OF_8.format(seq=10))
    report = await check(database)
    assert Code.UNLINKED in {each.code for each in report.findings} or Code.ALTERED in {
        each.code for each in report.findings
    }
    assert report.findings[0].seq == 10


_COPY_OF_8 = """
    create temp table copied as select * from audit_log where seq = 8;
    update copied set seq = {seq}, execution_id = gen_random_uuid();
    insert into audit_log select * from copied"""


async def test_a_second_entry_with_a_number_is_found(database: Database) -> None:
    await write_calls(database, 10)
    async with connection(database.dsn()) as owner:
        await owner.execute(_COPY_OF_8.format(seq=8))
    report = await check(database)
    assert Code.INSERTED in {each.code for each in report.findings}


@pytest.mark.parametrize("where", ["seq > 15", "seq > 0"])
async def test_a_truncated_chain_is_found_by_its_checkpoint(database: Database, where: str) -> None:
    await write_calls(database, 10)
    await tamper(
        database, f"delete from audit_entries where {where}", "delete from audit_writers where event = 'closed'"
    )
    report = await check(database)
    assert [each.code for each in report.findings] == [Code.TRUNCATED]


async def test_truncation_with_its_checkpoints_is_found_by_the_file(database: Database, tmp_path: Path) -> None:
    await write_calls(database, 10, tmp_path / "checkpoints")
    await tamper(
        database,
        "delete from audit_entries where seq > 15",
        "delete from audit_checkpoints",
        "delete from audit_writers where event = 'closed'",
    )
    assert (await check(database)).findings == []
    report = await check(database, read_file(tmp_path / "checkpoints"))
    assert {each.code for each in report.findings} == {Code.CHECKPOINT_REMOVED, Code.TRUNCATED}


async def test_a_chain_that_was_wiped_with_its_writer_is_found_by_the_file(database: Database, tmp_path: Path) -> None:
    await write_calls(database, 3, tmp_path / "checkpoints")
    await tamper(database, "delete from audit_entries", "delete from audit_checkpoints", "delete from audit_writers")
    report = await check(database, read_file(tmp_path / "checkpoints"))
    assert Code.TRUNCATED in {each.code for each in report.findings}


async def test_a_rewritten_chain_contradicts_its_checkpoint(database: Database) -> None:
    """Whoever may write the tables can compute hashes, but cannot sign."""
    writer = await write_calls(database, 5)
    async with connection(database.dsn()) as owner:
        await owner.execute("update audit_log set subject = 'mallory' where seq = 4")
        await rehash(owner, writer)
    report = await check(database)
    assert [each.code for each in report.findings] == [Code.REWRITTEN]


async def test_a_forged_checkpoint_is_found(database: Database) -> None:
    await write_calls(database, 3)
    await tamper(database, "update audit_checkpoints set statement = replace(statement, '\"seq\":6', '\"seq\":4')")
    report = await check(database)
    assert [each.code for each in report.findings] == [Code.BAD_SIGNATURE]


async def test_rubbish_among_the_checkpoints_does_not_stop_verification(database: Database) -> None:
    await write_calls(database, 3)
    async with connection(database.dsn("postern_proxy")) as proxy:
        await proxy.execute("""
            insert into audit_checkpoints (kind, at, statement, key_id, signature)
            values ('prune', now(), '{}', 'x', repeat('x', 64)::bytea)""")
    report = await check(database)
    assert [(each.code, each.message) for each in report.findings] == [
        (Code.BAD_SIGNATURE, "checkpoint 2 of the table is no statement")
    ]


async def test_rubbish_among_the_writers_does_not_stop_verification_or_gaps(database: Database) -> None:
    """The proxy's role may insert there, and so may whoever steals it."""
    await write_calls(database, 3)
    async with connection(database.dsn("postern_proxy")) as proxy:
        for detail in ('{"seq": "x", "hash": 7}', '{"seq": 6, "hash": "zz"}', "[]", '{"lost": 1, "counts": []}'):
            await proxy.execute(
                """with made as (select gen_random_uuid() as id)
                   insert into audit_writers (writer_id, event, at, instance, detail)
                   select id, event, now(), 'x', $1::jsonb from made, unnest('{opened,recovered,closed}'::text[]) event""",
                detail,
            )
    assert (await check(database)).findings == []
    async with connection(database.dsn("postern_auditor")) as auditor:
        assert [gap.code for gap in await find_gaps(auditor, datetime.now(UTC))] == []


async def test_statements_with_wrong_values_do_not_stop_verification_without_keys(database: Database) -> None:
    await write_calls(database, 3)
    writer = '"writer":"01936f2c-7d40-7000-8000-00000000beef"'
    statements = (
        f'{{"v":1,"kind":"head","at":"2026-11-23T00:00:00+00:00",{writer},"seq":"x","hash":"00"}}',
        f'{{"v":1,"kind":"head","at":"2026-11-23T00:00:00+00:00",{writer},"seq":{10**30},"hash":"00"}}',
        '{"v":1,"kind":"prune","at":"2026-11-23T00:00:00+00:00","dropped":[{"writer":"x","first":"a","last":1}]}',
        "[" * 100_000,
    )
    async with connection(database.dsn("postern_proxy")) as proxy:
        for statement in statements:
            await proxy.execute(
                """insert into audit_checkpoints (kind, at, statement, key_id, signature)
                   values ('prune', now(), $1, 'x', repeat('x', 64)::bytea)""",
                statement,
            )
    found = (await check(database, keys=PublicKeys())).findings
    assert [each.code for each in found] == [Code.BAD_SIGNATURE] * 4


async def test_a_checkpoint_of_a_strange_key_proves_nothing(database: Database) -> None:
    await write_calls(database, 3)
    other: Any = load_pem_public_key(Signer(Ed25519PrivateKey.generate()).public_pem)
    report = await check(database, keys=PublicKeys([other]))
    assert [each.code for each in report.findings] == [Code.BAD_SIGNATURE]
    assert "not trusted" in report.findings[0].message


async def test_without_keys_signatures_are_counted_as_unchecked(database: Database) -> None:
    await write_calls(database, 3)
    report = await check(database, keys=PublicKeys())
    assert (report.findings, report.unchecked) == ([], 1)


async def test_a_chain_that_nobody_opened_is_found(database: Database) -> None:
    await write_calls(database, 3)
    await tamper(database, "delete from audit_writers")
    assert [each.code for each in (await check(database)).findings] == [Code.UNANNOUNCED]


async def test_checkpoints_are_signed_while_the_writer_works(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "checkpoints"
    notary = Notary(SIGNER, file, every_s=0.05)
    writer = await AuditWriter.open(database.dsn("postern_proxy"), instance="one", notary=notary)
    for _ in range(500):
        await writer.write_row(refusal())
        if file.exists() and len(read_file(file)) >= 3:
            break
        await asyncio.sleep(0.01)
    await writer.aclose()
    checkpoints = read_file(file)
    assert len(checkpoints) >= 3
    assert [json.loads(later.statement)["previous"] for later in checkpoints[1:]] == [
        e.digest for e in checkpoints[:-1]
    ]
    assert (await check(database, checkpoints)).findings == []


async def test_a_dead_writers_end_is_signed_by_who_closes_it(database: Database) -> None:
    dead = await AuditWriter.open(database.dsn("postern_proxy"), instance="dead")
    await dead.write_intent(call()[0])
    await dead.aclose()
    closer = await AuditWriter.open(database.dsn("postern_proxy"), instance="closer", notary=Notary(SIGNER, None))
    async with connection(database.dsn("postern_proxy")) as own:
        assert await close_interrupted(own, closer) == 1
    await closer.aclose()
    report = await check(database)
    assert (report.findings, report.checkpoints, report.uncovered) == ([], 2, 0)


def test_a_torn_last_line_of_the_file_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "checkpoints"
    append_to_file(file, _prune_of(0))
    file.write_bytes(file.read_bytes() + b'{"statement": "to')
    assert read_file(file) == [_prune_of(0)]


def test_a_last_line_counts_though_a_copy_of_the_file_lost_its_end_of_line(tmp_path: Path) -> None:
    file = tmp_path / "checkpoints"
    append_to_file(file, _prune_of(0))
    append_to_file(file, _prune_of(1))
    file.write_bytes(file.read_bytes().rstrip(b"\n"))
    assert read_file(file) == [_prune_of(0), _prune_of(1)]


def test_a_line_behind_a_torn_one_counts(tmp_path: Path) -> None:
    """A full disk or a power failure tears a line in the middle of the file; the writers go on behind it."""
    file = tmp_path / "checkpoints"
    made = [_prune_of(hour) for hour in range(3)]
    append_to_file(file, made[0])
    append_to_file(file, made[1])
    file.write_bytes(file.read_bytes()[:-40])
    append_to_file(file, made[2])
    assert [each.statement for each in read_file(file)] == [made[0].statement, made[2].statement]


def _prune_of(hour: int) -> Checkpoint:
    at = f"2026-11-23T{hour:02}:00:00+00:00"
    statement = json.dumps({"v": 1, "kind": "prune", "at": at, "partitions": [], "dropped": []})
    return read_checkpoint(statement, SIGNER.key_id, SIGNER.sign(statement))


def test_a_damaged_line_of_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text('{"statement": 1}\n')
    with pytest.raises(ValueError, match="checkpoints:1:"):
        read_file(tmp_path / "checkpoints")
