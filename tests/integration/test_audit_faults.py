"""PostgreSQL fails under the writer. After each fault: answered is a subset of recorded, and the chain is whole."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from proxy.audit.errors import AuditUnavailable
from proxy.audit.limits import Limits
from proxy.audit.record import Intent, Row
from proxy.audit.writer import AuditWriter
from registry.database.pool import connection
from tests.fixtures_postgres import SUPERUSER, PrivatePostgres
from tests.integration.audit_load import Load, check_books, forgive_asyncpg, until
from tests.unit.audit.samples import call, outcome, refusal, request


@pytest.fixture(autouse=True)
async def quiet() -> None:
    forgive_asyncpg()


FAST = Limits(commit_timeout_s=1.5, patience_s=3)


@asynccontextmanager
async def loaded(server: PrivatePostgres, callers: int = 8) -> AsyncGenerator[Load]:
    """A writer under load; at the end it is healthy, closed, and its books are checked."""
    writer = await AuditWriter.open(server.dsn("postern_proxy"), instance="faults", limits=FAST)
    load, stop = Load(writer), asyncio.Event()
    tasks = [asyncio.create_task(load.run(stop)) for _ in range(callers)]
    try:
        await until(lambda: len(load.told) > 50, "the load runs")
        yield load
        before = len(load.told)
        await until(lambda: len(load.told) > before + 50, "the load runs again after the fault")
    finally:
        stop.set()
        await asyncio.gather(*tasks)
        await writer.aclose()
    await check_books(server.dsn("postern_auditor"), load)


async def in_thread(work: Callable[[], Any]) -> None:
    await asyncio.get_running_loop().run_in_executor(None, work)


async def test_a_restart(renewed_postgres: PrivatePostgres) -> None:
    async with loaded(renewed_postgres) as load:
        await in_thread(renewed_postgres.restart)
        assert load.writer.counters.outages >= 1


async def test_a_crash(renewed_postgres: PrivatePostgres) -> None:
    async with loaded(renewed_postgres) as load:
        await in_thread(renewed_postgres.kill)
        await in_thread(renewed_postgres.start)
        assert load.writer.counters.outages >= 1


async def test_stopped_longer_than_patience_owes_the_rows(renewed_postgres: PrivatePostgres) -> None:
    async with loaded(renewed_postgres) as load:
        await in_thread(renewed_postgres.stop)
        await until(lambda: not load.writer.healthy, "the writer says so")
        await asyncio.sleep(FAST.patience_s + 1)
        assert load.refused > 0
        await in_thread(renewed_postgres.start)
    async with connection(renewed_postgres.dsn("postern_auditor")) as auditor:
        owed = await auditor.fetchval("select count(*) from audit_log where decision = 'audit.unavailable'")
    assert owed > 0


async def test_a_frozen_server(renewed_postgres: PrivatePostgres) -> None:
    async with loaded(renewed_postgres) as load:
        renewed_postgres.freeze()
        await until(lambda: not load.writer.healthy, "the writer says so")
        renewed_postgres.thaw()


CUT = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'postern audit'"


async def test_the_backend_terminated_again_and_again(renewed_postgres: PrivatePostgres) -> None:
    async with loaded(renewed_postgres) as load, connection(renewed_postgres.dsn(SUPERUSER)) as admin:
        for wanted in range(1, 16):
            await admin.execute(CUT)
            await until(lambda wanted=wanted: load.writer.counters.outages >= wanted, "the cut is noticed")
            await until(lambda: load.writer.healthy, "the writer is back")


async def slow_commits(server: PrivatePostgres) -> None:
    """A deferred trigger makes the commit itself take half a second, so that it can be cut in the middle."""
    async with connection(server.dsn()) as owner:
        await owner.execute("""
            create function dawdle() returns trigger language plpgsql as
              'begin if new.tool = ''slow'' then perform pg_sleep(0.5); end if; return null; end';
            create constraint trigger dawdle after insert on audit_log deferrable initially deferred
              for each row execute function dawdle()""")


async def commit_cut(server: PrivatePostgres, cut: Callable[[AuditWriter], Awaitable[None]]) -> tuple[AuditWriter, Row]:
    writer = await AuditWriter.open(server.dsn("postern_proxy"), instance="cut", limits=FAST)
    asked = request(tool="slow")
    await writer.write_intent(Intent(asked))
    row = Row(asked, outcome())
    writing = asyncio.ensure_future(writer.write_row(row))
    async with connection(server.dsn(SUPERUSER)) as admin:
        busy = "select count(*) from pg_stat_activity where application_name = 'postern audit' and state = 'active'"
        for _ in range(500):
            if await admin.fetchval(busy):
                break
            await asyncio.sleep(0.005)
        await cut(writer)
    await writing
    await writer.aclose()
    return writer, row


async def test_a_commit_cut_before_it_happened_is_written_again(renewed_postgres: PrivatePostgres) -> None:
    await slow_commits(renewed_postgres)

    async def terminate(_: AuditWriter) -> None:
        async with connection(renewed_postgres.dsn(SUPERUSER)) as admin:
            await admin.execute(CUT)

    writer, _ = await commit_cut(renewed_postgres, terminate)
    await books_of_one_call(renewed_postgres, writer, commits=2)


async def test_a_commit_whose_answer_was_lost_is_found_and_not_written_twice(renewed_postgres: PrivatePostgres) -> None:
    await slow_commits(renewed_postgres)

    async def hang_up(writer: AuditWriter) -> None:
        """The network goes; the server does not notice and commits."""
        live: Any = writer.store._live()
        live._transport.abort()

    writer, _ = await commit_cut(renewed_postgres, hang_up)
    await books_of_one_call(renewed_postgres, writer, commits=2)


async def books_of_one_call(server: PrivatePostgres, writer: AuditWriter, commits: int) -> None:
    assert writer.counters.commits == commits
    assert writer.counters.outages == 1
    async with connection(server.dsn("postern_auditor")) as auditor:
        found = await auditor.fetch("select kind, seq from audit_entries order by seq")
    assert [tuple(row) for row in found] == [("intent", 1), ("row", 2)]


async def test_without_a_server_nothing_opens(renewed_postgres: PrivatePostgres) -> None:
    await in_thread(renewed_postgres.stop)
    with pytest.raises(AuditUnavailable):
        await AuditWriter.open(renewed_postgres.dsn("postern_proxy"), instance="none")


async def test_away_means_refused_at_once_with_a_time_to_retry(renewed_postgres: PrivatePostgres) -> None:
    writer = await AuditWriter.open(renewed_postgres.dsn("postern_proxy"), instance="away", limits=FAST)
    await in_thread(renewed_postgres.stop)
    with suppress(AuditUnavailable):
        await writer.write_row(refusal())
    await until(lambda: not writer.healthy, "the writer knows")
    began = asyncio.get_running_loop().time()
    with pytest.raises(AuditUnavailable) as refused:
        await writer.write_intent(call()[0])
    assert asyncio.get_running_loop().time() - began < 0.2
    assert refused.value.retry_after_s >= 1
    await writer.aclose()


async def test_a_lost_write_privilege_closes_and_heals(renewed_postgres: PrivatePostgres) -> None:
    async with loaded(renewed_postgres) as load, connection(renewed_postgres.dsn()) as owner:
        await owner.execute("revoke insert on audit_entries from postern_proxy")
        await until(lambda: not load.writer.healthy, "the writer says so")
        await owner.execute("grant insert on audit_entries to postern_proxy")


async def test_a_store_without_its_tables_closes_and_heals(
    renewed_postgres: PrivatePostgres, caplog: pytest.LogCaptureFixture
) -> None:
    """As in the middle of a restore: the database takes connections and is not the store yet."""
    async with loaded(renewed_postgres) as load, connection(renewed_postgres.dsn()) as owner:
        await owner.execute("alter table audit_entries rename to audit_elsewhere")
        await until(lambda: "there and cannot be used: the database has no audit tables" in caplog.text, "it is said")
        assert not load.writer.healthy
        await owner.execute("alter table audit_elsewhere rename to audit_entries")
        await until(lambda: load.writer.healthy, "the writer is back")


@pytest.fixture
def tiny_disk() -> Iterator[Path]:
    """A file system of 3 MB; needs the right to mount."""
    folder = Path(tempfile.mkdtemp(prefix="postern-tiny-")).resolve()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    try:
        if mounted.returncode != 0:
            pytest.skip("no right to mount a tiny file system here")
        yield folder
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        shutil.rmtree(folder, ignore_errors=True)


async def test_a_full_disk_closes_and_heals(
    renewed_postgres: PrivatePostgres, tiny_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The tablespace of the log is full: refused, nothing lost; when there is room again it goes on by itself."""
    owner = (renewed_postgres.base / "data").stat()
    os.chown(tiny_disk, owner.st_uid, owner.st_gid)
    ballast = tiny_disk / "ballast"
    async with connection(renewed_postgres.dsn(SUPERUSER)) as admin:
        await admin.execute(f"create tablespace tiny location '{tiny_disk}'")
        for part in await admin.fetch(
            "select inhrelid::regclass::text from pg_inherits where inhparent = 'audit_log'::regclass"
        ):
            await admin.execute(f"alter table {part[0]} set tablespace tiny")
    async with loaded(renewed_postgres) as load:
        ballast.write_bytes(b"")
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        await until(lambda: load.refused > 0, "callers are refused")
        assert "No space left on device" in caplog.text, "it is the disk that refuses"
        ballast.unlink()
        await until(lambda: load.writer.healthy, "the writer is back")
