"""A primary dies, its streaming standby takes over; the writer finds it by its DSN of two hosts."""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from proxy.audit.gaps import find_gaps
from proxy.audit.keys import PublicKeys
from proxy.audit.limits import Limits
from proxy.audit.record import Row
from proxy.audit.verify import verify
from proxy.audit.writer import AuditWriter
from registry.database.account import bootstrap_account
from registry.database.binaries import Binaries, binaries_for, find_binaries
from registry.database.errors import DatabaseUnavailable
from registry.database.migrations import migrate
from registry.database.pool import connection
from tests.fixtures_postgres import execute, run_apart, wait_until
from tests.integration.audit_load import Load, check_books, forgive_asyncpg, until
from tests.unit.audit.samples import refusal

pytestmark = pytest.mark.slow
LIMITS = Limits(commit_timeout_s=2, patience_s=10)
COMMON = (
    "fsync=off",
    "shared_buffers=16MB",
    "listen_addresses=",
    "wal_level=replica",
    "hot_standby=on",
    "wal_keep_size=64MB",
)


@dataclass
class Node:
    """One PostgreSQL with trust on a socket in a directory that only its user enters."""

    folder: Path
    binaries: Binaries
    process: subprocess.Popen[Any] | None = field(default=None)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def run(self, *command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, **as_user())

    def start(self, *settings: str) -> None:
        options = [
            part for each in (*COMMON, f"unix_socket_directories={self.folder}", *settings) for part in ("-c", each)
        ]
        with (self.folder / "log").open("ab") as log:
            command = [str(self.binaries.postgres), "-D", str(self.data), *options]
            self.process = subprocess.Popen(command, text=False, stdout=log, stderr=log, **as_user())
        wait_until(self.answers, "the node answers")

    def answers(self) -> bool:
        try:
            run_apart(execute(self.dsn("postgres"), "select 1"))
        except Exception:  # noqa: BLE001  not yet
            return False
        return True

    def dsn(self, database: str = "audit", user: str = "postgres") -> str:
        return f"postgresql://{user}@/{database}?host={self.folder}"

    def kill(self) -> None:
        """As a machine that loses power: every process of it at once."""
        if self.process is not None and self.process.poll() is None:
            for pid in (self.process.pid, *self.children()):
                self.send(pid, signal.SIGKILL)
            self.process.wait()

    def children(self) -> list[int]:
        assert self.process is not None
        return [
            int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]

    def receivers(self) -> list[int]:
        return [pid for pid in self.children() if b"walreceiver" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def send(self, pid: int, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def as_user() -> dict[str, Any]:
    account = bootstrap_account()
    env = {"LC_ALL": "C", "PATH": os.defpath}
    if account.uid == os.geteuid():
        return {"env": env}
    return {"env": env, "user": account.uid, "group": account.gid, "extra_groups": [], "umask": 0o077}


@dataclass
class Pair:
    primary: Node
    standby: Node

    def dsn(self, user: str) -> str:
        return f"postgresql://{user}@/audit?host={self.primary.folder},{self.standby.folder}&port=5432,5432"

    async def fail_over(self) -> None:
        await asyncio.to_thread(self.primary.kill)
        async with connection(self.standby.dsn()) as admin:
            assert await admin.fetchval("select pg_promote(true, 30)")


@pytest.fixture
def pair() -> Iterator[Pair]:
    account = bootstrap_account()
    base = Path(tempfile.mkdtemp(prefix="postern-pair-")).resolve()
    base.chmod(0o711)
    found = binaries_for(find_binaries(), base=base, other_uid=account.uid != os.geteuid())
    nodes = [Node(base / name, found) for name in ("a", "b")]
    for node in nodes:
        node.folder.mkdir(mode=0o700)
        os.chown(node.folder, account.uid, account.gid)
    primary, standby = nodes
    try:
        primary.run(
            str(found.initdb),
            "-D",
            str(primary.data),
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--no-sync",
            "--no-locale",
        )
        primary.start()
        run_apart(execute(primary.dsn("postgres"), "create database audit"))
        run_apart(migrate(primary.dsn()))
        backup = (
            "pg_basebackup",
            "-D",
            str(standby.data),
            "-h",
            str(primary.folder),
            "-U",
            "postgres",
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "--no-sync",
        )
        primary.run(str(found.bin_dir / backup[0]), *backup[1:])
        standby.start()
        yield Pair(primary, standby)
    finally:
        for node in nodes:
            node.kill()
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(autouse=True)
async def quiet() -> None:
    forgive_asyncpg()


@asynccontextmanager
async def under_load(pair: Pair) -> AsyncGenerator[Load]:
    writer = await AuditWriter.open(pair.dsn("postern_proxy"), instance="pair", limits=LIMITS)
    load, stop = Load(writer), asyncio.Event()
    tasks = [asyncio.create_task(load.run(stop)) for _ in range(8)]
    try:
        await until(lambda: len(load.told) > 50, "the load runs")
        yield load
        before = len(load.told)
        await until(lambda: len(load.told) > before + 50, "the load runs again on the standby")
    finally:
        stop.set()
        await asyncio.gather(*tasks)
        await writer.aclose()


async def test_a_synchronous_standby_loses_nothing(pair: Pair) -> None:
    async with connection(pair.primary.dsn()) as admin:
        await admin.execute("alter system set synchronous_standby_names = '*'")
        await admin.execute("select pg_reload_conf()")
        for _ in range(500):
            if await admin.fetchval("select count(*) from pg_stat_replication where sync_state = 'sync'"):
                break
            await asyncio.sleep(0.02)
    async with under_load(pair) as load:
        await pair.fail_over()
        async with connection(pair.standby.dsn()) as admin:  # the new primary has no standby to wait for
            await admin.execute("alter system reset synchronous_standby_names")
            await admin.execute("select pg_reload_conf()")
    await check_books(pair.standby.dsn(user="postern_auditor"), load)
    async with connection(pair.standby.dsn(user="postern_auditor")) as auditor:
        assert (await verify(auditor, PublicKeys())).findings == []


async def promote(standby: Node) -> None:
    """Promote a standby, which may be about to begin anew because its receiver was killed."""
    for _ in range(500):
        with suppress(DatabaseUnavailable, asyncpg.PostgresError, asyncpg.InterfaceError):
            async with connection(standby.dsn()) as admin:
                if not await admin.fetchval("select pg_is_in_recovery()"):
                    return
                await admin.fetchval("select pg_promote(true, 30)")
        await asyncio.sleep(0.02)
    raise AssertionError("the standby is not promoted")


async def test_what_an_asynchronous_standby_lost_is_told(pair: Pair) -> None:
    """Without synchronous replication committed rows may be lost with the primary: verify and gaps must say so."""
    writer = await AuditWriter.open(pair.dsn("postern_proxy"), instance="pair", limits=LIMITS)
    await writer.write_row(refusal())
    async with connection(pair.primary.dsn()) as admin:
        await admin.execute("select pg_stat_clear_snapshot()")
        for _ in range(500):
            if await admin.fetchval("select bool_and(replay_lsn = pg_current_wal_lsn()) from pg_stat_replication"):
                break
            await asyncio.sleep(0.02)
    receivers = pair.standby.receivers()
    for pid in receivers:
        os.kill(pid, signal.SIGSTOP)
    lost: list[Row] = [refusal() for _ in range(3)]
    for row in lost:
        await writer.write_row(row)
    await asyncio.to_thread(pair.primary.kill)
    for pid in receivers:
        os.kill(pid, signal.SIGKILL)
    await until(lambda: pair.standby.process is not None and pair.standby.process.poll() is None, "the standby lives")
    await promote(pair.standby)
    for _ in range(500):
        try:
            await writer.write_row(refusal())
            break
        except Exception:  # noqa: BLE001  not yet back
            await asyncio.sleep(0.02)
    await writer.aclose()
    async with connection(pair.standby.dsn(user="postern_auditor")) as auditor:
        found = (await verify(auditor, PublicKeys())).findings
        gaps = [gap.code for gap in await find_gaps(auditor, lost[0].request.started)]
    assert [finding.message for finding in found] == ["entries 2 to 4 are missing before it"]
    assert "lost by the database" in gaps
