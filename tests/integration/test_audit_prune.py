"""`postern audit prune`: what it drops, what it leaves, and that `verify` proves as much afterwards."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from proxy.audit.chain import Head
from proxy.audit.checkpoint import read_file, row_of, sign, state_head
from proxy.audit.findings import Code
from proxy.audit.keys import PublicKeys
from proxy.audit.limits import Limits
from proxy.audit.notary import Notary
from proxy.audit.prune import Pruned, cutoff, periods_before, prune
from proxy.audit.store import record_checkpoint
from proxy.audit.verify import verify
from proxy.audit.writer import AuditWriter
from registry.database.pool import connection
from tests.fixtures_postgres import Database, run_apart
from tests.integration.audit_trail import AGO, PARTITIONS, SIGNER, TRUSTED, check, execute, rehash, tamper, write
from tests.unit.audit.samples import call, refusal

CUTOFF = datetime.now(UTC) - timedelta(days=40)


async def write_signed(database: Database, old: int, new: int, file: Path | None = None, *, dies: bool = False) -> Any:
    """A writer records calls of two months and signs its head after each."""
    await execute(database, PARTITIONS)
    notary = Notary(SIGNER, file, every_s=3600)
    writer = await AuditWriter.open(database.dsn("postern_proxy"), instance="one", limits=Limits(), notary=notary)
    for started in [AGO] * old + [datetime.now(UTC)] * new:
        intent, row = call(started=started)
        await writer.write_intent(intent)
        await writer.write_row(row)
        stored = await _head(database, writer)
        await notary.attest(writer.store, "head", stored, {})
    if dies:
        writer.store.drop()
    await writer.aclose()
    return writer


async def _head(database: Database, writer: AuditWriter) -> Head:
    async with connection(database.dsn("postern_auditor")) as own:
        row = await own.fetchrow(
            "select seq, row_hash from audit_entries where writer_id = $1 order by seq desc limit 1", writer.writer_id
        )
    assert row is not None
    return Head(row["seq"], row["row_hash"])


async def prune_old(database: Database, keys: PublicKeys = TRUSTED, file: Path | None = None) -> list[Pruned]:
    async with connection(database.dsn()) as owner:
        return [
            await prune(owner, period, SIGNER, keys, file, datetime.now(UTC))
            for period in await periods_before(owner, CUTOFF)
        ]


async def heads(database: Database) -> list[int]:
    async with connection(database.dsn()) as owner:
        found = await owner.fetch("select seq from audit_checkpoints where kind <> 'prune' order by checkpoint_id")
    return [row["seq"] for row in found]


async def test_checkpoints_inside_of_what_is_pruned_go_with_it(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "checkpoints"
    await write_signed(database, 4, 3, file)
    assert await heads(database) == [2, 4, 6, 8, 10, 12, 14, 14]
    assert sum(done.heads for done in await prune_old(database, file=file)) == 3
    assert await heads(database) == [8, 10, 12, 14, 14], "the end of what was dropped stays, and all that is behind it"
    for outside in ([], read_file(file)):
        report = await check(database, outside)
        assert (report.findings, report.entries, report.uncovered) == ([], 6, 0)


async def test_the_last_checkpoint_of_a_chain_stays_when_all_of_it_is_pruned(database: Database) -> None:
    await write_signed(database, 4, 0)
    await prune_old(database)
    assert await heads(database) == [8, 8]
    assert (await check(database)).findings == []


async def test_the_newest_checkpoint_stays_where_the_chain_went_on_without_one(database: Database) -> None:
    """Its writer died; whoever closes the chain continues from that statement."""
    await write_signed(database, 4, 0, dies=True)
    await execute(database, "delete from audit_checkpoints where seq = 8")
    await prune_old(database)
    assert await heads(database) == [6]
    report = await check(database)
    assert (report.findings, report.uncovered) == ([], 0)


TAMPERINGS = {
    "altered": ("update audit_log set subject = 'mallory' where seq = 12",),
    "removed": ("delete from audit_log where seq = 12",),
    "first removed": ("delete from audit_intents where seq = 9",),
    "truncated": ("delete from audit_entries where seq > 11",),
    "emptied": ("delete from audit_entries",),
    "statement removed": ("delete from audit_checkpoints where kind = 'prune'",),
    "statement altered": (
        """update audit_checkpoints set statement = replace(statement, '"last":8', '"last":10') where kind = 'prune'""",
    ),
    "checkpoints removed": ("delete from audit_checkpoints where seq > 8", "delete from audit_entries where seq > 8"),
    "all but the prune": ("delete from audit_checkpoints where kind <> 'prune'", "delete from audit_entries"),
}


@pytest.mark.parametrize("statements", TAMPERINGS.values(), ids=TAMPERINGS.keys())
async def test_verify_finds_as_much_without_them(
    database: Database, tmp_path: Path, statements: tuple[str, ...]
) -> None:
    """The same trail, pruned with its checkpoints and without."""
    file = tmp_path / "checkpoints"
    await write_signed(database, 4, 3, file)
    async with connection(database.dsn()) as owner:
        kept = [
            tuple(value for _, value in row.items())[1:] for row in await owner.fetch("select * from audit_checkpoints")
        ]
    await prune_old(database, file=file)
    await tamper(database, *statements)
    thin = [await check(database, outside) for outside in ([], read_file(file))]
    async with connection(database.dsn()) as owner:
        for row in kept:
            if row[3] in {2, 4, 6}:
                await record_checkpoint(owner, *row)
    full = [await check(database, outside) for outside in ([], read_file(file))]
    for one, other in zip(thin, full, strict=True):
        assert set(map(_what, one.findings)) == set(map(_what, other.findings))
    assert thin[1].findings


def _what(finding: Any) -> tuple[object, ...]:
    return (finding.code, finding.seq, finding.writer)


async def test_a_chain_whose_rest_and_checkpoints_are_gone_is_found_by_what_was_pruned(database: Database) -> None:
    """Entries before a pruned range, that only the statement about the range knows of."""
    await execute(database, PARTITIONS)
    await write(database, *call(), *call(started=AGO))
    await prune_old(database)
    await tamper(database, "delete from audit_entries", "delete from audit_writers")
    assert [each.code for each in (await check(database)).findings] == [Code.TRUNCATED]


async def test_what_contradicts_a_signed_checkpoint_is_not_pruned(database: Database) -> None:
    writer = await write_signed(database, 4, 3)
    async with connection(database.dsn()) as owner:
        await owner.execute("update audit_log set subject = 'mallory' where seq = 4")
        await rehash(owner, writer)
    found = [done.refusal for done in await prune_old(database) if done.refusal]
    assert found == [
        f"a signed checkpoint has another hash for entry 4 of writer {writer.writer_id}; run `postern audit verify`"
    ]
    assert len(await heads(database)) == 8
    assert {each.code for each in (await check(database)).findings} == {Code.REWRITTEN}


async def test_checkpoints_that_prove_nothing_stay_as_evidence(database: Database) -> None:
    """Of a key that nobody trusts, and of a number that is not the one of their statement."""
    writer = await write_signed(database, 4, 3)
    forged = sign(state_head("head", writer.writer_id, "x", Head(2, b"x" * 32), {}, None, AGO), SIGNER)
    stranger = (*row_of(forged)[:-1], b"x" * 64)
    async with connection(database.dsn("postern_proxy")) as proxy:
        await record_checkpoint(proxy, *stranger)
    await execute(database, "update audit_checkpoints set seq = 3 where seq = 12")
    await prune_old(database)
    assert await heads(database) == [8, 10, 3, 14, 14, 2]
    assert [each.code for each in (await check(database)).findings] == [Code.BAD_SIGNATURE]


async def test_without_the_key_that_signed_them_checkpoints_stay(database: Database) -> None:
    await write_signed(database, 4, 3)
    assert sum(done.heads for done in await prune_old(database, PublicKeys())) == 0
    assert len(await heads(database)) == 8


async def test_rows_out_of_place_are_not_pruned(database: Database) -> None:
    await write_signed(database, 1, 1)
    await execute(
        database,
        "alter table audit_entries drop constraint audit_entries_seq_check",
        "update audit_log set seq = 0 where seq = 2",
    )
    assert "no place in any chain" in "".join(done.refusal or "" for done in await prune_old(database))


async def test_a_clock_that_is_years_ahead_drops_nothing_young(database: Database) -> None:
    month = timedelta(days=30)
    async with connection(database.dsn()) as owner:
        now = datetime.now(UTC)
        assert await cutoff(owner, month, now + timedelta(days=3650)) < now
        assert await cutoff(owner, month, now - month) == now - 2 * month


@asynccontextmanager
async def reading(database: Database, *tables: str) -> AsyncGenerator[Any]:
    """A reader in a transaction that has read these tables."""
    async with connection(database.dsn("postern_auditor")) as reader, reader.transaction():
        for table in tables:
            await reader.fetch(f"select from {table} limit 1")
        yield reader


async def until_it_waits(database: Database) -> None:
    """Return when somebody waits for a lock on a table."""
    async with connection(database.dsn()) as watcher:
        for _ in range(1_000):
            if await watcher.fetchval(
                """select count(*) from pg_locks where not granted and locktype = 'relation'
                      and database = (select oid from pg_database where datname = current_database())"""
            ):
                return
            await asyncio.sleep(0.005)
    raise AssertionError("nobody waits")


@pytest.mark.parametrize("order", [("audit_log", "audit_intents"), ("audit_intents", "audit_log")])
async def test_prune_and_a_reader_do_not_end_each_other(database: Database, order: tuple[str, str]) -> None:
    await write_signed(database, 1, 1)
    async with reading(database, order[0]) as reader:
        pruning = asyncio.create_task(prune_old(database))
        await until_it_waits(database)
        await reader.fetch(f"select from {order[1]} limit 1")
    assert [done.refusal for done in await pruning] == [None] * len(await pruning)


async def test_a_reader_that_does_not_end_keeps_the_period(database: Database) -> None:
    await write_signed(database, 1, 1)
    async with reading(database, "audit_log"), connection(database.dsn()) as owner:
        period = (await periods_before(owner, CUTOFF))[0]
        done = await prune(owner, period, SIGNER, TRUSTED, None, datetime.now(UTC))
    assert done.refusal == "somebody reads it; try again"


async def test_a_period_that_still_gets_rows_is_kept(database: Database) -> None:
    """A row that comes after the statement was made, and before the partition is dropped, would be dropped unsigned."""
    await write_signed(database, 1, 1)
    async with connection(database.dsn()) as owner:
        (period,) = [each for each in await periods_before(owner, CUTOFF) if each.lower <= AGO < each.upper]
        async with reading(database, "audit_log"):
            pruning = asyncio.create_task(prune(owner, period, SIGNER, TRUSTED, None, datetime.now(UTC)))
            await until_it_waits(database)
            await write(database, refusal(started=AGO))
        assert (await pruning).refusal == "it still gets rows; try again"
    report = await check(database)
    assert (report.findings, report.entries) == ([], 5)


async def test_what_is_pruned_while_verify_runs_is_no_finding(database: Database) -> None:
    for _ in range(2):
        await write_signed(database, 2, 1)
    done: list[Pruned] = []

    def prune_once(_done: int, _all: int) -> None:
        if not done:
            done.extend(run_apart(prune_old(database)))

    async with connection(database.dsn("postern_auditor")) as auditor:
        report = await verify(auditor, TRUSTED, (), prune_once)
    assert sum(each.rows for each in done) == 4
    assert report.findings == []
