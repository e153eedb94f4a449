"""Rows of requests whose callers were told 503, kept in memory until the store is back.

What reached a server is always kept: no more of it can come than was in flight when the store went away. Of what was
only refused so many rows are kept as have room, and payloads only while they fit; the rest is counted.
"""

from collections import deque
from collections.abc import Iterator

from msgspec.structs import replace

from proxy.audit.record import Payload, Row


class Debts:
    """First in, first out. `dropped` counts rows that found no room."""

    def __init__(self, most_entries: int, most_bytes: int) -> None:
        self.dropped = 0
        self._most_entries = most_entries
        self._most_bytes = most_bytes
        self._bytes = 0
        self._rows: deque[Row] = deque()

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: Row, *, has_reached: bool) -> bool:
        """Keep a row; False when it found no room. `has_reached`: a server may have seen the request."""
        if len(self._rows) >= self._most_entries and not has_reached:
            self.dropped += 1
            return False
        size = _size(row.request.input) + _size(row.outcome.output)
        if self._bytes + size > self._most_bytes:
            row, size = _without_payloads(row), 0
        self._bytes += size
        self._rows.append(row)
        return True

    def pay(self) -> Iterator[Row]:
        """Hand out what is kept, oldest first."""
        while self._rows:
            yield self._rows.popleft()
        self._bytes = 0


def _size(payload: Payload | None) -> int:
    return len(payload.text) if payload is not None and payload.text is not None else 0


def _without_payloads(row: Row) -> Row:
    """Return a row whose payloads are only told by size and digest."""
    request, outcome = row.request, row.outcome
    if request.input is not None:
        request = replace(request, input=replace(request.input, text=None))
    if outcome.output is not None:
        outcome = replace(outcome, output=replace(outcome.output, text=None))
    return Row(request, outcome)
