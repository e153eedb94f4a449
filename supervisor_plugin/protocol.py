"""supervisord's event-listener protocol: a parser without I/O, and the asyncio edge around it.

Four rules, each the answer to a way in which listeners go silent or supervisord dies: what we print must never reach
the protocol's pipe; text is decoded first and counted then, because `len` counts characters; every event is
acknowledged at once and worked on elsewhere; a gap in the pool's serials means that events were lost.
"""

import asyncio
import codecs
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

READY = b"READY\n"
ACKNOWLEDGED = b"RESULT 2\nOKREADY\n"
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `lost` tells how many are missing before it, None if nobody knows (the first one we see)."""

    name: str
    headers: dict[str, str]
    body: str
    lost: int | None = 0


@dataclass(frozen=True, slots=True)
class Closed:
    """supervisord is gone: its end of the pipe is closed."""


class Parser:
    """Bytes in, events out; state is what is left of the last chunk."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._envelope: dict[str, str] | None = None
        self._last: int | None = None

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that are complete now."""
        self._text += self._decoder.decode(chunk)
        events: list[Event] = []
        while (event := self._next()) is not None:
            events.append(event)
        return events

    def _next(self) -> Event | None:
        if self._envelope is None:
            line, newline, rest = self._text.partition("\n")
            if not newline:
                return None
            self._envelope, self._text = tokens(line), rest
        length = int(self._envelope["len"])
        if len(self._text) < length:
            return None
        payload, self._text = self._text[:length], self._text[length:]
        envelope, self._envelope = self._envelope, None
        return self._event(envelope, payload)

    def _event(self, envelope: dict[str, str], payload: str) -> Event:
        serial = int(envelope["poolserial"])
        lost = None if self._last is None else max(0, serial - self._last - 1)
        self._last = serial if self._last is None else max(serial, self._last)
        head, _, body = payload.partition("\n")
        return Event(envelope["eventname"], tokens(head), body, lost)


def tokens(line: str) -> dict[str, str]:
    """Split `key:value key:value`; values have no spaces."""
    return dict(part.split(":", 1) for part in line.split() if ":" in part)


def take_standard_streams() -> tuple[int, int]:
    """Move the protocol's pipes to private descriptors; whatever prints from now on prints to the log."""
    reader, writer = os.dup(0), os.dup(1)
    os.set_inheritable(reader, False)
    os.set_inheritable(writer, False)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    return reader, writer


class EventSource:
    """Reads and acknowledges events; `deliver` gets each one, and Closed at the end."""

    def __init__(self, reader: int, writer: int, deliver: Callable[[Event | Closed], None]) -> None:
        self._reader, self._writer, self._deliver = reader, writer, deliver
        self._parser = Parser()
        self._open = True

    def start(self) -> None:
        """Tell supervisord that we are ready, and read from now on."""
        os.set_blocking(self._reader, False)
        asyncio.get_running_loop().add_reader(self._reader, self._readable)
        self._write(READY)

    def _readable(self) -> None:
        try:
            chunk = os.read(self._reader, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._close()
            return
        for event in self._parser.feed(chunk):
            self._deliver(event)
            self._write(ACKNOWLEDGED)

    def _write(self, message: bytes) -> None:
        # supervisord has at most one event out to us, and its pipe holds 64 KiB: this cannot block.
        try:
            os.write(self._writer, message)
        except OSError:
            self._close()

    def _close(self) -> None:
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._reader)
            self._deliver(Closed())
