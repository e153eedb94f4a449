"""The bounded line of entries in front of the flusher, oldest first."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress

from proxy.audit.entry import Entry


class Line:
    """Bounded in entries and bytes; `room` is the back-pressure. Used from one event loop."""

    def __init__(self, most_entries: int, most_bytes: int) -> None:
        self._most_entries = most_entries
        self._most_bytes = most_bytes
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._filled: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def is_full(self) -> bool:
        return len(self._entries) >= self._most_entries or self._bytes >= self._most_bytes

    def add(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._bytes += len(entry.body)
        if self._filled is not None:
            self.wake()

    def wake(self) -> None:
        """Let `filled` return although nothing was added."""
        waiter, self._filled = self._filled, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def filled(self) -> None:
        """Return when something was added since, or `wake` was called. For one at a time."""
        self._filled = asyncio.get_running_loop().create_future()
        await self._filled

    async def room(self, limit_s: float) -> bool:
        """Wait for room; False when there was none in time."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await turn
                return True
        return False

    def take(self, most_entries: int, most_bytes: int) -> list[Entry]:
        """Remove and return the next batch: at least one entry if there is any."""
        batch: list[Entry] = []
        size = 0
        while self._entries and len(batch) < most_entries and size < most_bytes:
            entry = self._entries.popleft()
            size += len(entry.body)
            batch.append(entry)
        self._bytes -= size
        self._make_room(len(batch))
        return batch

    def put_back(self, batch: Iterable[Entry]) -> None:
        """Return entries to the front, in their order."""
        for entry in reversed(list(batch)):
            self._entries.appendleft(entry)
            self._bytes += len(entry.body)

    def remove(self, is_removed: Callable[[Entry], bool]) -> list[Entry]:
        """Remove and return all entries of which that is true."""
        removed = [entry for entry in self._entries if is_removed(entry)]
        if removed:
            self._entries = deque(entry for entry in self._entries if not is_removed(entry))
            self._bytes -= sum(len(entry.body) for entry in removed)
            self._make_room(len(removed))
        return removed

    def _make_room(self, places: int) -> None:
        while self._waiting and places > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                places -= 1
