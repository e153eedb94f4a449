"""The end of a request from outside, by time or by a strike: what `asyncio.timeout` does, at a fraction of its cost."""

import asyncio
import math


class Clock:
    """One timer for all the deadlines of a worker: nearly all requests end long before theirs."""

    __slots__ = ("_due", "_loop", "_timer", "_timer_at")

    def __init__(self) -> None:
        self._due: dict[Deadline, float] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the worker: asking asyncio for it costs a system call each time."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def add(self, deadline: "Deadline", limit_s: float) -> None:
        """Strike it in `limit_s` seconds."""
        loop = self.loop
        at = self._due[deadline] = loop.time() + limit_s
        if at < self._timer_at:
            self._wind(at, loop)

    def remove(self, deadline: "Deadline") -> None:
        """Strike it no more; a timer that was wound for it finds nothing to do."""
        self._due.pop(deadline, None)

    def _wind(self, at: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = loop.call_at(at, self._fire, loop)

    def _fire(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer, self._timer_at = None, math.inf
        now = loop.time()
        for deadline in [each for each, at in self._due.items() if at <= now]:
            del self._due[deadline]
            deadline.strike()
        if self._due:
            self._wind(min(self._due.values()), loop)


class Deadline:
    """Begin it in the task that it may end; then `end` it in any case.

    Once it has struck, the task is cancelled. `is_mine` tells, in the handler of the CancelledError, whether that one
    came from here and no other has come since, and takes it back.
    """

    __slots__ = ("_before", "_clock", "_task", "has_struck")

    def __init__(self, clock: Clock) -> None:
        self.has_struck = False
        self._clock = clock
        self._task: asyncio.Task[object] | None = None

    def begin(self, limit_s: float | None) -> None:
        """Strike after `limit_s` seconds, if not earlier."""
        self._task = task = asyncio.current_task(self._clock.loop)
        if task is None:
            raise RuntimeError("a deadline is for a task")
        self._before = task.cancelling()
        if limit_s is not None:
            self._clock.add(self, limit_s)

    @property
    def is_running(self) -> bool:
        return self._task is not None

    def strike(self) -> None:
        """End what the task does now. Before the beginning and after the end there is nothing to end."""
        if self._task is not None and not self.has_struck:
            self.has_struck = True
            self._task.cancel()

    def is_mine(self) -> bool:
        """Whether the cancellation that has just arrived is this deadline's."""
        task = self._task
        return self.has_struck and task is not None and task.uncancel() <= self._before

    def end(self) -> None:
        """Let the task go on without it."""
        self._task = None
        self._clock.remove(self)
