"""The messages of one request, or of one session's standing stream, in order, for one reader at a time."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol

MAX_EVENTS: Final = 1_000
MAX_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Event:
    """One message, rendered. `status` is the HTTP status it has when it is the whole answer."""

    seq: int
    body: bytes
    is_last: bool
    status: int


class Reader(Protocol):
    """Who writes a stream to a client."""

    def stop(self) -> None: ...


class Stream:
    """Append on one side, read by sequence number on the other.

    A replayable stream keeps what was read, for `Last-Event-ID`. Both kinds are bounded: beyond it the oldest go,
    never the last message of a request.
    """

    def __init__(self, name: str, *, is_replayable: bool) -> None:
        self.name = name
        self.is_closed = False
        self.read_through = 0
        self._reader: Reader | None = None
        self._is_replayable = is_replayable
        self._events: deque[Event] = deque()
        self._held_bytes = 0
        self._seq = 0
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    @property
    def is_read(self) -> bool:
        return self._reader is not None

    def attach(self, reader: Reader) -> None:
        """From now on this one reads; an earlier one, on a connection that may be dead, is told to stop."""
        if self._reader is not None:
            self._reader.stop()
        self._reader = reader

    def detach(self, reader: Reader) -> None:
        if self._reader is reader:
            self._reader = None

    def push(self, body: bytes, *, is_last: bool = False, status: int = 200) -> None:
        """Append a message; after the last one the stream is closed and takes no more."""
        if self.is_closed:
            return
        self._seq += 1
        self._events.append(Event(self._seq, body, is_last, status))
        self._held_bytes += len(body)
        while len(self._events) > 1 and (len(self._events) > MAX_EVENTS or self._held_bytes > MAX_BYTES):
            self._forget_oldest()
        self.is_closed = is_last
        self._wake()

    def close(self) -> None:
        """End without a further message."""
        self.is_closed = True
        self._wake()

    def next_after(self, seq: int) -> Event | None:
        """Return the first message later than `seq`, if it is here already."""
        if not self._is_replayable:
            while self._events and self._events[0].seq <= seq:
                self._forget_oldest()
        if seq >= self._seq or not self._events:
            return None
        return self._events[max(0, seq + 1 - self._events[0].seq)]

    def change(self) -> asyncio.Future[None]:
        """Return a future that is done at the next message or at the close."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        waiter.add_done_callback(self._waiters.discard)
        return waiter

    def _forget_oldest(self) -> None:
        self._held_bytes -= len(self._events.popleft().body)

    def _wake(self) -> None:
        for waiter in tuple(self._waiters):
            if not waiter.done():
                waiter.set_result(None)


def render_event_id(stream: str, seq: int) -> str:
    return f"{stream}-{seq}"


def parse_event_id(text: str) -> tuple[str, int] | None:
    """Return the stream and the position that an event id names; None when it is not one of ours."""
    name, dash, seq = text.rpartition("-")
    if not dash or len(text) > 64 or not (seq.isascii() and seq.isdigit()):
        return None
    return name, int(seq)
