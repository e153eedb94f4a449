"""One timer for all the deadlines of a connection."""

import asyncio
import math
from collections.abc import Callable
from typing import Literal

from proxy.upstream.errors import Phase

WatchPhase = Phase | Literal["keepalive"]


class Watchdog:
    """Calls `expired(phase)` once the current deadline, or the total one, has passed.

    A later deadline costs an assignment: the running timer fires, sees that it is early, and winds itself up again.
    """

    __slots__ = ("_deadline", "_expired", "_loop", "_phase", "_timer", "_timer_at", "_total")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[WatchPhase], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._phase: WatchPhase = "keepalive"
        self._deadline = self._total = self._timer_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, first_byte_s: float, total_s: float | None) -> None:
        """Start both clocks of a request; None: it has no total one."""
        now = self._loop.time()
        self._phase = "first_byte"
        self._deadline = now + first_byte_s
        self._total = math.inf if total_s is None else now + total_s
        if self._deadline < self._timer_at or self._total < self._timer_at:
            self._wind(min(self._deadline, self._total))

    def rest(self, keepalive_s: float) -> None:
        """Stop both, and start the one of an idle connection."""
        self._total = math.inf
        self._phase = "keepalive"
        self._deadline = due = self._loop.time() + keepalive_s
        if due < self._timer_at:
            self._wind(due)

    def watch(self, phase: WatchPhase, seconds: float) -> None:
        """Replace the current deadline; `math.inf` rests it."""
        self._phase = phase
        self._deadline = self._loop.time() + seconds
        due = min(self._deadline, self._total)
        if due < self._timer_at:
            self._wind(due)

    def stop(self) -> None:
        self._deadline = self._total = self._timer_at = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Stop for good, and let go of whom it would have told."""
        self.stop()
        self._expired = _nobody

    def _wind(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_at(due, self._fire)

    def _fire(self) -> None:
        self._timer, self._timer_at = None, math.inf
        now, due = self._loop.time(), min(self._deadline, self._total)
        if due == math.inf:
            return
        if now < due:
            self._wind(due)
            return
        phase: WatchPhase = "total" if self._total <= self._deadline else self._phase
        self.stop()
        self._expired(phase)


def _nobody(_: WatchPhase) -> None:
    """Is told nothing."""
