"""Ctrl-C in two grades: the first ends everything in order, the second at once."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Generator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME_WISH_S = 0.5


def taken_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that end us: not a SIGHUP that is ignored already, as `nohup` leaves it."""
    return tuple(n for n in SIGNALS if n is not signal.SIGHUP or signal.getsignal(n) is not signal.SIG_IGN)


class Interrupts:
    """Counts the requests to stop; the first one cancels the task that does the work."""

    def __init__(self, work: "asyncio.Task[Any]", note: Callable[[str], None]) -> None:
        self._work, self._note = work, note
        self.count, self._last = 0, 0.0

    def hurry(self) -> bool:
        """Say whether somebody is out of patience."""
        return self.count > 1

    @contextlib.contextmanager
    def handled(self) -> Generator[None]:
        """Take the signals while the block runs; afterwards they are ignored, because all that is left is to exit."""
        loop = asyncio.get_running_loop()
        taken = taken_signals()
        for number in taken:
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in taken:
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)

    def _stop(self) -> None:
        now = asyncio.get_running_loop().time()
        if self.count and now - self._last < SAME_WISH_S:
            return  # a terminal, a shell and `timeout` may each pass on one and the same Ctrl-C
        self.count, self._last = self.count + 1, now
        if self.count == 1:
            self._note("stopping everything; once more to kill it")
            self._work.cancel()
