"""Looks at what a server offers: at the start, when it says that its lists changed, when it restarted, now and then.

The proxy does this and not the health probe of the plugin, because the proxy is what withholds: it sees what its
callers would see, on the same road with the same credentials, external servers and plain sidecars included.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

from proxy.guard.contracts import Contracts
from proxy.upstream import UpstreamError
from registry.contracts.catalogue import Catalogue, CatalogueError

LOOK_S: Final = 30.0
WAIT_S: Final = 10.0
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.5, 30.0
_PAUSE_S: Final = 0.5
"""A server that announces changes without end is looked at with pauses."""
_TRUSTED_FAILURES: Final = 2
_NOT_YET: Final = "it was not looked at yet"
_log = logging.getLogger("postern.contracts")

Look = Callable[[], Awaitable[Catalogue]]
Publish = Callable[[Contracts], Awaitable[bool]]


class ContractWatch:
    """One server's watch in one worker; `start` and `stop` it."""

    def __init__(self, contracts: Contracts, look: Look, publish: Publish, recheck_s: float) -> None:
        self._contracts = contracts
        self._look, self._publish = look, publish
        self._recheck_s = recheck_s
        self._asked, self._looked = asyncio.Event(), asyncio.Event()
        self._wants_look = True
        self._next_look = 0.0
        self._trouble, self._failures = _NOT_YET, 0
        self._task: asyncio.Task[None] | None = None
        contracts.on_change = self._changed

    def start(self) -> None:
        """Look for the first time, and go on."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def ask(self) -> None:
        """Something may have changed: look soon."""
        self._wants_look = True
        self._asked.set()

    def distrust(self) -> None:
        """The server may be another one now: nothing strict passes before it was looked at."""
        self._contracts.distrust()
        self.ask()

    async def why_unverified(self) -> str | None:
        """Wait until the server was looked at; return why it could not be."""
        if self._contracts.is_verified:
            return None
        self._looked.clear()
        self.ask()
        try:
            async with asyncio.timeout(WAIT_S):
                await self._looked.wait()
        except TimeoutError:
            pass
        return None if self._contracts.is_verified else self._trouble

    def _changed(self) -> None:
        self._asked.set()

    async def _run(self) -> None:
        """Watch, and begin again after a defect of ours: a server must not end its watch by what it says."""
        while True:
            try:
                await self._watch()
            except Exception:  # noqa: BLE001 -- the outermost loop of a watch
                _log.exception("the watch of server %s met a defect, and begins again", self._contracts.server)
                self.distrust()
                await asyncio.sleep(_LONGEST_RETRY_S)

    async def _watch(self) -> None:
        delay = _FIRST_RETRY_S
        while True:
            self._asked.clear()
            if self._wants_look:
                await asyncio.sleep(max(0.0, self._next_look - monotonic()))
                self._wants_look = False
                await self._look_once()
                self._next_look = monotonic() + _PAUSE_S
            is_published = await self._publish(self._contracts)
            is_settled = is_published and self._contracts.is_verified
            pause = min(delay, self._recheck_s) if not is_settled else self._recheck_s
            delay = _FIRST_RETRY_S if is_settled else min(delay * 2, _LONGEST_RETRY_S)
            await self._wait(pause)

    async def _wait(self, seconds: float) -> None:
        """Wait to be asked, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._asked.wait()
        except TimeoutError:
            self._wants_look = True

    async def _look_once(self) -> None:
        """Look, and again where what the look has seen may be out of date; whoever waits is told of the last one."""
        revision = self._contracts.revision
        try:
            async with asyncio.timeout(LOOK_S):
                live = await self._look()
                drift = await asyncio.to_thread(self._contracts.compare, live)
        except (CatalogueError, UpstreamError) as error:
            self._fail(str(error))
        except TimeoutError:
            self._fail(f"it did not say within {LOOK_S:g} s what it offers")
        else:
            self._trouble, self._failures = _NOT_YET, 0
            if not self._contracts.learn(drift, revision):
                self.ask()
                return
        self._looked.set()

    def _fail(self, trouble: str) -> None:
        """Keep why; what was as pinned is not known to be so any more when it could not be asked again and again."""
        self._failures += 1
        if self._failures >= _TRUSTED_FAILURES:
            self._contracts.is_verified = False
        if trouble != self._trouble:
            _log.info("server %s cannot be compared with its lock: %s", self._contracts.server, trouble)
        self._trouble = trouble
