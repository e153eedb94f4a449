"""The jobs that run as long as a worker does: one that ends is logged by its name, counted, and begun again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Final

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
AGAIN_S: Final = 2.0
STABLE_S: Final = 5.0
"""A job that has run for so long since it was begun again is well, and its next pause is the first one."""

_log = logging.getLogger("postern.background")

Job = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class _State:
    failures: int = 0
    began: float | None = None

    def is_well(self, now: float) -> bool:
        return not self.failures or (self.began is not None and now - self.began >= STABLE_S)


class Background:
    """Keeps jobs running until it is closed. None is meant to end; each says for itself what it can live with."""

    def __init__(self) -> None:
        self._states: dict[str, _State] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def keep(self, name: str, job: Job) -> None:
        """Run a job under a name from now on."""
        state = self._states[name] = _State()
        self._tasks.append(asyncio.create_task(_keep(name, job, state), name=name))

    def failures(self) -> Mapping[str, int]:
        """Return by name how often a job has ended."""
        return {name: state.failures for name, state in self._states.items()}

    def unwell(self) -> tuple[str, ...]:
        """Return the names of the jobs that do not run, or have run again for a moment only."""
        now = monotonic()
        return tuple(name for name, state in self._states.items() if not state.is_well(now))

    async def aclose(self) -> None:
        """End them all; again those in which a library has swallowed the cancellation."""
        left = set(self._tasks)
        while left:
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=AGAIN_S)


async def _keep(name: str, job: Job, state: _State) -> None:
    pause_s = FIRST_PAUSE_S
    while True:
        began = state.began = monotonic()
        error: Exception | None = None
        try:
            await job()
        except Exception as raised:  # noqa: BLE001 -- an outermost loop: what ends here would end in silence
            error = raised
        if monotonic() - began >= STABLE_S:
            pause_s = FIRST_PAUSE_S
        state.failures, state.began = state.failures + 1, None
        _log.error("the background job %r has ended; it begins again in %g s", name, pause_s, exc_info=error)
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
