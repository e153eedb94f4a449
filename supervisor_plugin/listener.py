"""`python -m supervisor_plugin.listener`: supervisord's event listener, the process that looks after the fleet.

It reads and acknowledges events at once, works in tasks, sends a heartbeat every second and after each change, and
outlives supervisord just long enough to end what supervisord has left behind.
"""

import asyncio
import contextlib
import fcntl
import json
import logging
import logging.handlers
import os
import signal
import sys
import time
from collections.abc import Coroutine
from typing import Any, cast

import click

from supervisor_plugin.client import SupervisorClient, SupervisordError
from supervisor_plugin.controller import Controller
from supervisor_plugin.guardian import end_fleet
from supervisor_plugin.ledger import Ledger, LedgerAwayError
from supervisor_plugin.names import LISTENER
from supervisor_plugin.operators import answer
from supervisor_plugin.paths import Paths
from supervisor_plugin.processes import boot_id
from supervisor_plugin.protocol import Closed, Event, EventSource, take_standard_streams
from supervisor_plugin.settings import Settings

HEARTBEAT_S, HEARTBEAT_GAP_S = 1.0, 0.1
LOOK_S = 5.0
COUNT_S, COUNT_SHARE = 5.0, 0.01
COUNT_HORIZON_S = 60.0
LOCK_POLL_S = 0.1
FLUSH_S = 3.0
MAX_GRACE_S = 15.0
MOOD_RUNNING = 1
EXIT_CANNOT_START = 3

_log = logging.getLogger("postern.listener")


class Terminated:
    """Somebody asked this process to end."""


class Listener:
    """Wires the parts together; `run` ends when supervisord does, or when this process is told to."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = SupervisorClient(settings.paths.socket)
        self._ledger = Ledger(settings.dsn, settings.host, settings.instance, boot_id())
        self._controller = Controller(settings, self._client, self._ledger)
        self._queue: asyncio.Queue[Event | Closed | Terminated] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, reader: int, writer: int) -> None:
        """Serve until the end."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._queue.put_nowait, Terminated())
        EventSource(reader, writer, self._queue.put_nowait).start()
        self._go(self._beat())
        self._go(self._look_after())
        try:
            end = await self._until_the_end()
            await (self._guard() if isinstance(end, Closed) else self._leave())
        finally:
            for task in self._tasks:
                task.cancel()

    def _go(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.critical("unexpected %r", error, exc_info=error)
            os._exit(70)  # supervisord starts us again, and then everything is looked at afresh

    async def _look_after(self) -> None:
        async with asyncio.TaskGroup() as group:
            lock = await hold_lock(self._settings.paths)
            group.create_task(self._ledger.run())
            group.create_task(self._controller.boot())
            group.create_task(self._controller.watch(LOOK_S))
            group.create_task(self._count())
        os.close(lock)

    async def _until_the_end(self) -> Closed | Terminated:
        while True:
            match await self._queue.get():
                case Event() as event:
                    self._take(event)
                case end:
                    return end

    def _take(self, event: Event) -> None:
        if event.lost:
            _log.warning("%d events were lost; looking instead", event.lost)
        if event.name == "SUPERVISOR_STATE_CHANGE_STOPPING":
            self._controller.stop_all()
        elif event.name == "REMOTE_COMMUNICATION" and event.headers.get("type") == "postern":
            # Who asked the former listener was told that nothing comes of it; so nothing does.
            if (request := _request(event.body)).get("to") == os.getpid():
                self._go(self._answer(request))
        else:
            self._controller.look_soon()

    async def _answer(self, request: dict[str, Any]) -> None:
        result = await answer(self._controller, request)
        with contextlib.suppress(SupervisordError):
            await self._beat_once()  # so that `fleet status` right after the answer shows what it says
            await self._client.complete(request["id"], result)

    # Periodic work

    async def _beat(self) -> None:
        while True:
            try:
                await self._beat_once()
            except SupervisordError as error:
                _log.warning("no heartbeat: %s", error)
            await asyncio.sleep(HEARTBEAT_GAP_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._controller.news.wait()

    async def _beat_once(self) -> None:
        self._controller.news.clear()
        # Monotonic over restarts of this process, too: pid and sequence together are never seen twice.
        await self._client.report(self._controller.heartbeat(time.monotonic_ns() // 1000, os.getpid()))

    async def _count(self) -> None:
        """Count sessions and calls for `fleet status`, and never spend more than a hundredth of the time on it."""
        while True:
            started = time.monotonic()
            with contextlib.suppress(LedgerAwayError):
                self._controller.counts = {
                    "sessions": await self._ledger.sessions(),
                    "calls": await self._ledger.calls(COUNT_HORIZON_S),
                }
                self._controller.drift = await self._ledger.drift()
            await asyncio.sleep(max(COUNT_S, (time.monotonic() - started) / COUNT_SHARE))

    # The end

    async def _leave(self) -> None:
        """Go away: with the whole fleet if supervisord is stopping, else leaving it to the next listener."""
        try:
            is_stopping = (await self._client.status())["mood"] < MOOD_RUNNING
        except SupervisordError:
            is_stopping = True
        if is_stopping:
            await self._finish("the fleet was stopped", grace_s=2.0)
        else:
            await self._controller.close()

    async def _guard(self) -> None:
        """End what a dead supervisord has left behind."""
        _log.critical("supervisord is gone: ending the fleet")
        keepers = self._controller.keepers.values()
        grace_s = min(MAX_GRACE_S, max((keeper.unit.policy.stop_grace_s for keeper in keepers), default=2.0))
        await self._finish("supervisord died", grace_s=grace_s)

    async def _finish(self, reason: str, grace_s: float) -> None:
        await self._controller.close()
        left = await asyncio.to_thread(end_fleet, self._settings.instance, grace_s)
        for identity in left:
            _log.critical("pid %d is left over and cannot be ended", identity.pid)
        self._controller.write_final_rows(reason)
        await self._ledger.flush(FLUSH_S)


def _request(body: str) -> dict[str, Any]:
    """Read a request; anybody who may ask supervisord can send such an event, and with any text in it."""
    try:
        request: object = json.loads(body)
    except ValueError:
        return {}
    return cast("dict[str, Any]", request) if isinstance(request, dict) else {}


async def hold_lock(paths: Paths) -> int:
    """Wait until no other listener of this state directory lives, its cleaning up included."""
    descriptor = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            await asyncio.sleep(LOCK_POLL_S)
        else:
            return descriptor


def configure_logging(paths: Paths) -> None:
    """Log to a file: our own stderr is a pipe to supervisord, and broken when it is needed most."""
    file = paths.logs / f"{LISTENER}.log"
    handler = logging.handlers.RotatingFileHandler(file, maxBytes=20_000_000, backupCount=3)
    logging.basicConfig(level=logging.INFO, handlers=[handler], format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)


@click.command("listener")
def command() -> None:
    """Run the fleet listener; supervisord calls this."""
    main()


def main() -> None:
    settings = Settings.of_process()
    if not settings.instance:
        click.echo(
            "postern listener: POSTERN_FLEET is not set; supervisord runs this, with the configuration of `postern up`",
            err=True,
        )
        sys.exit(EXIT_CANNOT_START)
    reader, writer = take_standard_streams()
    configure_logging(settings.paths)
    asyncio.run(Listener(settings).run(reader, writer))


if __name__ == "__main__":
    main()
