"""What the proxy hears of other processes' changes, and when it says that it has heard everything."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from proxy import notifications
from registry.database.driver import Connection, Pool
from registry.database.initialise import SUPERUSER
from registry.database.pool import connect, create_pool
from tests.fixtures_postgres import Database, PrivatePostgres, execute, wait_until
from tests.ports import free_port
from tests.sidecar import listens

pytestmark = pytest.mark.anyio
WITH_PGBOUNCER = pytest.mark.skipif(
    shutil.which("pgbouncer") is None, reason="pgbouncer is not installed: apt-get install pgbouncer"
)
CHANNEL = "postern_sessions"
END_LISTENERS = (
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'postern notifications'"
)


@contextlib.asynccontextmanager
async def calling(dsn: str) -> AsyncGenerator[Pool]:
    pool = await create_pool(dsn)
    try:
        yield pool
    finally:
        await pool.close()


class Ear:
    """What a listener was told, in order."""

    def __init__(self) -> None:
        self.told = list[str]()
        self.reconnects = 0
        self.current = list[float]()

    def reconnected(self) -> None:
        self.reconnects += 1

    @contextlib.asynccontextmanager
    async def listening(self, dsn: str) -> AsyncGenerator[None]:
        async with calling(dsn) as pool:
            listening = notifications.listen(
                dsn, pool, {CHANNEL: self.told.append}, self.reconnected, self.current.append
            )
            task = asyncio.create_task(listening)
            try:
                yield
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def until(self, is_so: Any) -> None:
        async with asyncio.timeout(30):
            while not is_so():  # noqa: ASYNC110  what is waited for has no event of its own
                await asyncio.sleep(0.01)


class Abrupt:
    """A connection on which the listener is cancelled in the very moment in which it hears its echo, or a turn later."""

    def __init__(self, connection: Connection, cancel: Callable[[], object], turns: int) -> None:
        self._connection = connection
        self._cancel = cancel
        self._turns = turns
        self.terminate = connection.terminate

    async def add_listener(self, channel: str, deliver: Callable[..., None]) -> None:
        def deliver_and_cancel(*arguments: Any) -> None:
            deliver(*arguments)
            self._cancel_later(self._turns)

        is_echo = channel == notifications.ECHO_CHANNEL
        await self._connection.add_listener(channel, deliver_and_cancel if is_echo else deliver)

    def _cancel_later(self, turns: int) -> None:
        if turns == 0:
            self._cancel()
        else:
            asyncio.get_running_loop().call_soon(self._cancel_later, turns - 1)


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "_PROBE_S", 0.2)
    monkeypatch.setattr(notifications, "_RETRY_S", 0.05)


async def test_what_was_told_before_is_heard_before_it_is_said_to_be_current(database: Database) -> None:
    ear = Ear()
    async with ear.listening(database.dsn("postern_proxy")):
        await ear.until(lambda: ear.current)
        for number in range(20):
            await execute(database.dsn("postern_owner"), f"notify {CHANNEL}, '{number}'")
            done, heard = monotonic(), len(ear.current)
            await ear.until(lambda heard=heard, done=done: any(at > done for at in ear.current[heard:]))
            assert ear.told[-1] == str(number)
    assert ear.reconnects == 1


async def test_a_cut_connection_is_made_again_and_said_to_have_missed_something(database: Database) -> None:
    ear = Ear()
    async with ear.listening(database.dsn("postern_proxy")):
        await ear.until(lambda: ear.current)
        await execute(database.dsn(SUPERUSER), END_LISTENERS)
        await ear.until(lambda: ear.reconnects == 2)
        before = len(ear.current)
        await ear.until(lambda: len(ear.current) > before)


@pytest.fixture(scope="module")
def trusting(hurt_cluster: PrivatePostgres) -> PrivatePostgres:
    """A cluster that lets a pooling proxy in; only its own user reaches its socket."""
    (hurt_cluster.base / "conf" / "pg_hba.conf").write_text("local all all trust\n", encoding="utf-8")
    assert hurt_cluster.server.pid is not None
    os.kill(hurt_cluster.server.pid, signal.SIGHUP)
    return hurt_cluster


@contextlib.contextmanager
def pooled(cluster: PrivatePostgres, mode: str) -> Generator[str]:
    """Run PgBouncer before the cluster; the address of its database as the proxy's role."""
    port, sockets = free_port(), cluster.base / "run"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        file = Path(folder) / "pgbouncer.ini"
        file.write_text(
            f"[databases]\npostern = host={sockets} dbname={cluster.name} user=postern_proxy\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
            f"pool_mode = {mode}\nignore_startup_parameters = extra_float_digits\n",
            encoding="utf-8",
        )
        owner, groups = (sockets.stat().st_uid, list[int]()) if os.geteuid() == 0 else (None, None)
        command = ["pgbouncer", "-q", str(file)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, user=owner, extra_groups=groups)
        try:
            wait_until(lambda: listens(port), "PgBouncer listens")
            yield f"postgresql://postern_proxy@127.0.0.1:{port}/postern"
        finally:
            process.terminate()
            process.wait(timeout=30)


@WITH_PGBOUNCER
async def test_through_a_pooling_proxy_in_session_mode_everything_is_heard(trusting: PrivatePostgres) -> None:
    ear = Ear()
    with pooled(trusting, "session") as dsn:
        async with ear.listening(dsn):
            await ear.until(lambda: ear.current)
            await execute(trusting.dsn(), f"notify {CHANNEL}, 'revoked'")
            await ear.until(lambda: ear.told == ["revoked"])


@WITH_PGBOUNCER
async def test_through_one_in_transaction_mode_nothing_ever_counts_as_current(
    trusting: PrivatePostgres, caplog: pytest.LogCaptureFixture
) -> None:
    """It answers, and lets through what a connection tells itself: whoever believed that would never hear of an end."""
    ear = Ear()
    with pooled(trusting, "transaction") as dsn:
        async with ear.listening(dsn):
            await ear.until(lambda: ear.reconnects >= 3)
            await execute(trusting.dsn(), f"notify {CHANNEL}, 'revoked'")
            await ear.until(lambda: ear.reconnects >= 5)
    assert (ear.told, ear.current) == ([], [])
    assert "is not in session mode" in caplog.text


@pytest.mark.parametrize("turns", range(6))
async def test_it_ends_when_it_is_cancelled_whatever_it_hears_in_that_moment(
    database: Database, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """A cancellation that gets lost is a proxy that SIGTERM does not end."""

    async def connect_abrupt(dsn: str, **settings: Any) -> Abrupt:
        return Abrupt(await connect(dsn, **settings), task.cancel, turns)

    monkeypatch.setattr(notifications, "connect", connect_abrupt)
    ear = Ear()
    dsn = database.dsn("postern_proxy")
    async with calling(dsn) as pool:
        task = asyncio.create_task(notifications.listen(dsn, pool, {}, ear.reconnected, ear.current.append))
        done, _ = await asyncio.wait([task], timeout=30)
        task.cancel()
    assert done, "the cancellation was lost"
