"""What the proxy hears of other processes' changes, and when it says that it has heard everything."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from time import monotonic
from typing import Any

import pytest

from proxy import notifications
from registry.database.driver import Connection
from registry.database.initialise import SUPERUSER
from registry.database.pool import connect
from tests.fixtures_postgres import Database, execute

pytestmark = pytest.mark.anyio
CHANNEL = "postern_sessions"
END_LISTENERS = (
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'postern notifications'"
)


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
        handlers = {CHANNEL: self.told.append}
        task = asyncio.create_task(notifications.listen(dsn, handlers, self.reconnected, self.current.append))
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


class Deaf:
    """A connection that subscribes elsewhere."""

    def __init__(self, connection: Connection) -> None:
        self._connection: Any = connection
        self.execute, self.terminate = self._connection.execute, self._connection.terminate

    async def add_listener(self, channel: str, deliver: Callable[..., None]) -> None:
        await self._connection.add_listener(channel, deliver)
        await self._connection.execute("unlisten *")


class Abrupt(Deaf):
    """A connection on which the listener is cancelled in the very moment in which it hears its echo, or a turn later."""

    def __init__(self, connection: Connection, cancel: Callable[[], object], turns: int) -> None:
        super().__init__(connection)
        self._cancel = cancel
        self._turns = turns

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


async def test_a_connection_that_answers_and_tells_nothing_never_counts_as_current(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As one through a pooling proxy in transaction mode: whoever believed its answers would never hear of an end."""

    async def connect_deaf(dsn: str, **settings: Any) -> Deaf:
        return Deaf(await connect(dsn, **settings))

    monkeypatch.setattr(notifications, "connect", connect_deaf)
    ear = Ear()
    async with ear.listening(database.dsn("postern_proxy")):
        await ear.until(lambda: ear.reconnects >= 3)
    assert not ear.current
    assert "session mode" in caplog.text


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
    task = asyncio.create_task(notifications.listen(dsn, {}, ear.reconnected, ear.current.append))
    done, _ = await asyncio.wait([task], timeout=30)
    task.cancel()
    assert done, "the cancellation was lost"
