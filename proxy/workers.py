"""Several workers on one port (`proxy.workers`): the first process forks them, passes signals on, replaces the dead.

Each worker is a proxy of its own: it has its own audit writer and chain, its own connections to the servers, and its
own count of what runs. The kernel spreads new connections over them (SO_REUSEPORT).
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, sleep

from proxy.pulse import BEAT_S, Pulses

_STABLE_S = 5.0
_PAUSE_S = 1.0
"""At the least between two starts of a worker that is killed over and over."""
PATIENCE_S = 30.0
"""How long a worker's loop may hang before it is killed; counted in looks: none passes while the machine sleeps."""
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_log = logging.getLogger("postern.workers")


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker knows of its origin: a pipe that nobody writes to, and that ends with the first process.

    `pulses` and `place` say where it shows the first process that its loop turns.
    """

    lifeline: int
    pulses: Pulses
    place: int

    def beat(self, loop: asyncio.AbstractEventLoop) -> None:
        """Show from now on that the loop turns."""
        self.pulses.beat(self.place, loop)

    def on_orphaned(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        """Call `callback` once the first process is gone, however it ended."""

        def notice() -> None:
            loop.remove_reader(self.lifeline)
            callback()

        loop.add_reader(self.lifeline, notice)


@dataclass(slots=True)
class _Member:
    place: int
    began: float
    beats: int = 0
    silent_looks: int = 0


def run_workers(count: int, work: Callable[[Worker], int], patience_s: float = PATIENCE_S) -> int:
    """Keep `count` workers running until a signal ends them; return the exit code. `work` runs in each worker."""
    return _Crew(count, work, patience_s).run()


class _Crew:
    def __init__(self, count: int, work: Callable[[Worker], int], patience_s: float) -> None:
        self._count = count
        self._work = work
        self._patience_s = patience_s
        self._lifeline, self._held = os.pipe()
        self._pulses = Pulses(count)
        self._started: dict[int, _Member] = {}
        self._is_stopping = False

    def run(self) -> int:
        for number in _PASSED_ON:
            signal.signal(number, lambda received, _frame: self._pass_on(received))
        for place in range(self._count):
            self._fork(place)
        signal.signal(signal.SIGALRM, lambda _number, _frame: self._look())
        signal.setitimer(signal.ITIMER_REAL, BEAT_S, BEAT_S)  # a forked worker does not inherit it
        code = 0
        while self._started:
            pid, status = os.wait()
            code = max(code, self._ended(pid, os.waitstatus_to_exitcode(status)))
        return code

    def _fork(self, place: int) -> None:
        """Start a worker; signals that come meanwhile wait, so that none is lost between the two processes.

        In the worker SIGHUP waits on, until somebody takes it: it would end a worker that has not begun to serve.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
        self._pulses.reset(place)
        pid = os.fork()
        if pid:
            self._started[pid] = _Member(place, monotonic())
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
            return
        os.close(self._held)
        for number in (*_PASSED_ON, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {*_PASSED_ON} - {signal.SIGHUP})
        code = 70
        try:
            code = self._work(Worker(self._lifeline, self._pulses, place))
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _pass_on(self, number: int) -> None:
        self._is_stopping = self._is_stopping or number != signal.SIGHUP
        for pid in list(self._started):
            _send(pid, number)

    def _look(self) -> None:
        """Kill a worker that has begun to serve and hangs: it keeps its part of the port, and answers nobody."""
        for pid, member in list(self._started.items()):
            beats = self._pulses.read(member.place)
            member.silent_looks = 0 if beats != member.beats or not beats else member.silent_looks + 1
            member.beats = beats
            if member.silent_looks * BEAT_S >= self._patience_s and not self._is_stopping:
                member.silent_looks = 0
                _log.error("worker %d has not answered for %g s and is killed", pid, self._patience_s)
                _send(pid, signal.SIGKILL)

    def _ended(self, pid: int, code: int) -> int:
        """Note that a worker has ended; return the exit code that follows, 0 where it was replaced or was to end."""
        member = self._started.pop(pid)
        lived_s = monotonic() - member.began
        if self._is_stopping:
            return 0 if code == -signal.SIGTERM else abs(code)  # it may have been too young to drain
        if lived_s < _STABLE_S and code >= 0:
            _log.error("worker %d ended with %d right after its start; the others are stopped", pid, code)
            self._pass_on(signal.SIGTERM)
            return code or 3
        _log.error("worker %d ended with %d, another takes its place", pid, code)
        sleep(max(0.0, _PAUSE_S - lived_s))
        self._fork(member.place)
        return 0


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended, and nobody has looked yet
        os.kill(pid, number)
