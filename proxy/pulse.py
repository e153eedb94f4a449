"""The pulse of the workers, in memory that they share with the first process: a worker whose loop hangs has none.

Its port stays open, so that part of the callers would wait for ever, and a health check may meet another worker.
"""

import asyncio
import mmap
from typing import Final

BEAT_S: Final = 1.0
_SIZE: Final = 8


class Pulses:
    """One counter for each place of a worker; 0 until the worker has begun to serve."""

    def __init__(self, places: int) -> None:
        self._memory = mmap.mmap(-1, _SIZE * places)

    def read(self, place: int) -> int:
        """Return how often the worker of this place has beaten."""
        return int.from_bytes(self._memory[place * _SIZE : (place + 1) * _SIZE], "little")

    def reset(self, place: int) -> None:
        """Begin with a new worker."""
        self._write(place, 0)

    def beat(self, place: int, loop: asyncio.AbstractEventLoop) -> None:
        """Beat from now on, as long as the loop turns."""
        self._write(place, self.read(place) + 1)
        loop.call_later(BEAT_S, self.beat, place, loop)

    def _write(self, place: int, count: int) -> None:
        self._memory[place * _SIZE : (place + 1) * _SIZE] = count.to_bytes(_SIZE, "little")
