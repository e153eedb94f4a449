"""Several workers on one port (`proxy.workers`): the first process forks them, passes signals on, replaces the dead.

Each worker is a proxy of its own: it has its own audit writer and chain, its own connections to the servers, and its
own count of what runs. The kernel spreads new connections over them (SO_REUSEPORT).
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, sleep

_STABLE_S = 5.0
_PAUSE_S = 1.0
"""At the least between two starts of a worker that is killed over and over."""
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_log = logging.getLogger("postern.workers")


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker knows of its origin: a pipe that nobody writes to, and that ends with the first process."""

    lifeline: int

    def on_orphaned(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        """Call `callback` once the first process is gone, however it ended."""

        def notice() -> None:
            loop.remove_reader(self.lifeline)
            callback()

        loop.add_reader(self.lifeline, notice)


def run_workers(count: int, work: Callable[[Worker], int]) -> int:
    """Keep `count` workers running until a signal ends them; return the exit code. `work` runs in each worker."""
    return _Crew(count, work).run()


class _Crew:
    def __init__(self, count: int, work: Callable[[Worker], int]) -> None:
        self._count = count
        self._work = work
        self._lifeline, self._held = os.pipe()
        self._started: dict[int, float] = {}
        self._is_stopping = False

    def run(self) -> int:
        for number in _PASSED_ON:
            signal.signal(number, lambda received, _frame: self._pass_on(received))
        for _ in range(self._count):
            self._fork()
        code = 0
        while self._started:
            pid, status = os.wait()
            code = max(code, self._ended(pid, os.waitstatus_to_exitcode(status)))
        return code

    def _fork(self) -> None:
        """Start a worker; signals that come meanwhile wait, so that none is lost between the two processes."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
        pid = os.fork()
        if pid:
            self._started[pid] = monotonic()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
            return
        os.close(self._held)
        for number in _PASSED_ON:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
        code = 70
        try:
            code = self._work(Worker(self._lifeline))
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _pass_on(self, number: int) -> None:
        self._is_stopping = self._is_stopping or number != signal.SIGHUP
        for pid in list(self._started):
            os.kill(pid, number)

    def _ended(self, pid: int, code: int) -> int:
        """Note that a worker has ended; return the exit code that follows, 0 where it was replaced or was to end."""
        lived_s = monotonic() - self._started.pop(pid)
        if self._is_stopping:
            return 0 if code == -signal.SIGTERM else abs(code)  # it may have been too young to drain
        if lived_s < _STABLE_S and code >= 0:
            _log.error("worker %d ended with %d right after its start; the others are stopped", pid, code)
            self._pass_on(signal.SIGTERM)
            return code or 3
        _log.error("worker %d ended with %d, another takes its place", pid, code)
        sleep(max(0.0, _PAUSE_S - lived_s))
        self._fork()
        return 0
