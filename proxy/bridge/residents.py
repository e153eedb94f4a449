"""The children of the 2026-07-28 era: one for all or one per principal, started on demand, again when they died."""

import asyncio
import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from proxy.bridge.catalogue import Catalogue
from proxy.bridge.child import Spawner
from proxy.bridge.era import NotModern, probe_legacy, probe_modern
from proxy.bridge.frames import JsonObject, Kind, error_message, render_message
from proxy.bridge.link import Link
from proxy.bridge.places import Places
from proxy.bridge.replies import Failure
from proxy.errors import BAD_GATEWAY, METHOD_NOT_FOUND, TIMED_OUT, UNAVAILABLE

Sharing: TypeAlias = Literal["shared", "per-principal"]

_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 30.0
_STABLE_S: Final = 60.0
_PATIENCE_S: Final = 1.0
FULL: Final = Failure(
    503, UNAVAILABLE, "as many server processes run as are allowed", headers=((b"retry-after", b"5"),)
)
SILENT: Final = Failure(504, TIMED_OUT, "the server process did not answer within its time to start")
CLOSING: Final = Failure(503, UNAVAILABLE, "the bridge is shutting down", headers=((b"retry-after", b"1"),))


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next start, after `failures` ends in a row; `ready_at` is a loop time."""

    failures: int = 0
    ready_at: float = 0.0

    def after_end(self, started_at: float, now: float) -> "Backoff":
        """Count the end of a child. The first costs nothing; a child that ran for a minute is forgiven."""
        failures = 1 if now - started_at >= _STABLE_S else self.failures + 1
        pause_s = 0.0 if failures == 1 else min(_FIRST_PAUSE_S * 2.0 ** min(failures - 2, 16), _LONGEST_PAUSE_S)
        return Backoff(failures, now + pause_s)


class Resident:
    """The place of one modern child: empty, or with a child that has shown that it speaks the era."""

    def __init__(self) -> None:
        self.link: Link | None = None
        self.catalogue = Catalogue()
        self.starting = asyncio.Lock()
        self.backoff = Backoff()
        self.started_at = 0.0

    def on_unrelated(self, link: Link, message: JsonObject, kind: Kind) -> None:
        """Give it to the only call there is, or to nobody: it does not say whose it is."""
        if kind is Kind.REQUEST:
            link.tell(error_message(message["id"], METHOD_NOT_FOUND, "servers send no requests in this era"))
            return
        only = link.only_call()
        if only is not None and not str(message["method"]).endswith("/list_changed"):
            only.sink.push(render_message(message))

    def on_over(self, link: Link) -> None:
        if self.link is link:
            self.link = None
            self.note_end()

    def note_end(self) -> None:
        self.backoff = self.backoff.after_end(self.started_at, asyncio.get_running_loop().time())

    def vacate(self) -> Link | None:
        """Let the child leave on purpose, which is no failure."""
        link, self.link = self.link, None
        return link


class Residents:
    """Finds or starts the child that serves a principal.

    A server that turns out not to speak the era is remembered as such for the life of the bridge.
    """

    def __init__(self, spawner: Spawner, places: Places, sharing: Sharing, start_timeout_s: float) -> None:
        self._spawner = spawner
        self._places = places
        self._sharing: Sharing = sharing
        self._start_timeout_s = start_timeout_s
        self._residents: dict[str, Resident] = {}
        self._is_closing = False
        self._links: set[Link] = set()
        self.not_modern: NotModern | None = None

    async def find(self, principal: str) -> Resident | NotModern | Failure:
        """Return a place with a running child."""
        key = "" if self._sharing == "shared" else principal
        resident = self._residents.setdefault(key, Resident())
        async with resident.starting:
            if self._is_closing:
                return CLOSING
            if resident.link is not None or self.not_modern is not None:
                return self.not_modern or resident
            return await self._settle(resident)

    async def reap_idle(self, idle_s: float) -> None:
        """End the children that nobody has used for so long."""
        now = asyncio.get_running_loop().time()
        for key, resident in tuple(self._residents.items()):
            link = resident.link
            if link is not None and not link.in_flight and now - link.idle_since >= idle_s:
                await self._vacate(resident)
            elif link is None and not resident.starting.locked() and now - resident.backoff.ready_at >= idle_s:
                del self._residents[key]

    async def close(self) -> None:
        self._is_closing = True
        await asyncio.gather(*(link.stop(CLOSING) for link in self._links))

    async def _vacate(self, resident: Resident) -> None:
        link = resident.vacate()
        if link is not None:
            await link.stop(CLOSING)

    async def _settle(self, resident: Resident) -> Resident | NotModern | Failure:
        now = asyncio.get_running_loop().time()
        pause_s = resident.backoff.ready_at - now
        if pause_s > _PATIENCE_S:
            retry_after = str(math.ceil(pause_s)).encode()
            reason = f"the server process ended {resident.backoff.failures} times in a row"
            return Failure(503, UNAVAILABLE, reason, headers=((b"retry-after", retry_after),))
        await asyncio.sleep(max(0.0, pause_s))
        resident.started_at = asyncio.get_running_loop().time()
        outcome = await self._start(resident)
        if isinstance(outcome, Failure) and outcome is not FULL:
            resident.note_end()
        return outcome

    async def _start(self, resident: Resident) -> Resident | NotModern | Failure:
        link = await self._open(resident)
        if isinstance(link, Failure):
            return link
        era = await probe_modern(link, self._start_timeout_s)
        if era == "modern" and not self._is_closing:
            resident.link = link
            resident.catalogue = Catalogue()
            return resident
        await link.stop(CLOSING)
        if isinstance(era, NotModern) and era.supported:
            self.not_modern = era
            return era
        if isinstance(era, Failure) or era == "modern":
            return era if isinstance(era, Failure) else CLOSING
        return await self._ask_legacy(resident, was_silent=era is None)

    async def _ask_legacy(self, resident: Resident, *, was_silent: bool) -> NotModern | Failure:
        """Ask again, in legacy words, a server that did not understand the question of the modern era."""
        link = await self._open(resident)
        if isinstance(link, Failure):
            return link
        found = await probe_legacy(link, self._start_timeout_s)
        await link.stop(CLOSING)
        if found is None:
            return SILENT if was_silent else Failure(502, BAD_GATEWAY, "the server process speaks no known MCP version")
        self.not_modern = found
        return found

    async def _open(self, resident: Resident) -> Link | Failure:
        if self._is_closing:
            return CLOSING
        takes_place = self._sharing == "per-principal"
        if takes_place and not self._places.take():
            return FULL
        link = Link(resident, is_modern=True, place=self._places if takes_place else None)
        self._links = {known for known in self._links if not known.is_over} | {link}
        try:
            await link.start(self._spawner)
        except OSError as error:
            return Failure(502, BAD_GATEWAY, f"the server process cannot be started: {error.strerror}")
        return link
