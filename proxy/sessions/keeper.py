"""The housekeeping of sessions in one worker: activity, timeouts, what other replicas changed, rows that are over."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from time import monotonic
from uuid import UUID

from proxy.sessions.live import Live
from proxy.sessions.store import DATABASE_AWAY, Ended, Sessions
from registry.models import Server

LONGEST_TICK_S = 5.0
SHORTEST_TICK_S = 0.2
STREAMS_TICK_S = 30.0
SWEEP_TICK_S = 15.0
KEPT_S = 86_400.0
_BATCH = 200
_STATUSES = frozenset({"open", "closed", "expired", "revoked", "lost"})
_DISCARDS_AT_ONCE = 8
_DISCARD_S = 5.0

_log = logging.getLogger("postern.sessions")


class SessionKeeper:
    """`discard` tells a server that one of its sessions is over; `servers` returns those that this worker serves."""

    def __init__(
        self,
        sessions: Sessions,
        live: Live,
        servers: Callable[[], Sequence[Server]],
        discard: Callable[[Ended], Awaitable[None]],
    ) -> None:
        self._sessions = sessions
        self._live = live
        self._servers = servers
        self._discard = discard
        self._streams_due = 0.0

    def changed(self, payload: str) -> None:
        """Take a notification: `SESSION STATUS`, or `SESSION moved EXECUTION BY`."""
        match payload.split(" "):
            case [session_id, "moved", execution, by]:
                with suppress(ValueError):
                    self._live.let_go(session_id, UUID(execution), UUID(by))
            case [session_id, status] if status in _STATUSES:
                self._sessions.forget(session_id)
                self._live.session_changed(session_id, status)
            case _:
                _log.warning("a notification is not understood: %r", payload[:200])

    def missed_some(self) -> None:
        """Notifications may have been missed: look everything up again."""
        self._sessions.forget_all()
        self._streams_due = 0.0

    async def run(self) -> None:
        """Keep house until cancelled. Slow servers hold up the sweeping, never the writing of activity."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._forever(self.keep_current, LONGEST_TICK_S))
            tasks.create_task(self._forever(self.sweep, SWEEP_TICK_S))

    async def keep_current(self) -> None:
        """Write activity; an open stream counts as such. End the streams of sessions that turn out to be over."""
        in_use = self._live.sessions() if self._is_due_for_streams() else []
        still_open = set(await self._sessions.touch(in_use))
        for session_id in in_use:
            if session_id not in still_open:
                self._sessions.forget(session_id)
                self._live.session_changed(session_id, await self._sessions.status_of(session_id))

    async def sweep(self) -> None:
        """Expire what is idle or old, tell the servers, delete what ended long ago."""
        while await self._sessions.expire(_BATCH) == _BATCH:
            continue
        names = [server.name for server in self._servers()]
        while ended := await self._sessions.take_ended(names, _BATCH):
            await self._tell_servers(ended)
        await self._sessions.delete_ended(KEPT_S, _BATCH)

    async def _forever(self, turn: Callable[[], Awaitable[None]], longest_s: float) -> None:
        while True:
            try:
                await turn()
            except DATABASE_AWAY as error:
                _log.warning("sessions cannot be kept up to date: %s", error)
            except Exception:  # noqa: BLE001  an outermost loop: without it no session would ever end
                _log.exception("the housekeeping of sessions met what it does not know")
            await asyncio.sleep(self._tick_s(longest_s))

    def _tick_s(self, longest_s: float) -> float:
        """A quarter of the shortest idle timeout, within bounds."""
        shortest = min((server.sessions.idle_s for server in self._servers()), default=math.inf)
        return min(max(shortest / 4, SHORTEST_TICK_S), longest_s)

    def _is_due_for_streams(self) -> bool:
        now = monotonic()
        if now < self._streams_due:
            return False
        self._streams_due = now + self._tick_s(STREAMS_TICK_S)
        return True

    async def _tell_servers(self, ended: Sequence[Ended]) -> None:
        places = asyncio.Semaphore(_DISCARDS_AT_ONCE)

        async def tell(session: Ended) -> None:
            with suppress(TimeoutError):
                async with places, asyncio.timeout(_DISCARD_S):
                    await self._discard(session)

        await asyncio.gather(*(tell(session) for session in ended))
