"""Server-sent events, from bytes to events that keep their bytes (WHATWG HTML §9.2). Sans-IO.

A proxy forwards what it was sent: `b"".join(event.raw for event in …)` is the stream up to its last finished event.
Comments and blank lines between events come out at once, each as an event without fields, so that keep-alives flow.
"""

import re
from dataclasses import dataclass

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"
_RETRY = re.compile(rb"[0-9]{1,18}")
_UNSAFE = re.compile(r"[\r\n\0]")
_DATA_LINE_END = re.compile(r"\r\n|\n|\r")


class SseError(ValueError):
    """The stream cannot be understood: an event over the limit, or one that is not UTF-8."""


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event with the bytes it came in; a field that was not there is empty or None (`id` may be set to "")."""

    raw: bytes
    event: str = ""
    data: str = ""
    id: str | None = None
    retry: int | None = None


class SseParser:
    """Feed it chunks as they come, cut anywhere. Raises SseError, after which it is of no use."""

    __slots__ = ("_buffer", "_fields", "_has_begun", "_is_fresh", "_line", "_max_bytes", "_searched", "_start")

    def __init__(self, max_event_bytes: int) -> None:
        self._max_bytes = max_event_bytes
        self._buffer = bytearray()
        self._is_fresh = True
        self._start = self._line = self._searched = 0  # where event, line and the search for its end begin
        self._has_begun = False
        self._fields: list[tuple[bytes, bytes]] = []

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """Return the events that the chunk finishes."""
        self._buffer += chunk
        if self._is_fresh and not self._pass_bom():
            return []
        return self._drain(is_end=False)

    def finish(self) -> list[SseEvent]:
        """Return what the end of the stream finishes: a last line that ends in CR. An unfinished event is dropped."""
        return self._drain(is_end=True)

    def _pass_bom(self) -> bool:
        """Return False while it is not clear whether the stream starts with a byte order mark."""
        head = bytes(self._buffer[:3])
        if head != _BOM and _BOM.startswith(head):
            return False
        self._is_fresh = False
        self._line = self._searched = len(_BOM) if head == _BOM else 0
        return True

    def _drain(self, *, is_end: bool) -> list[SseEvent]:
        events: list[SseEvent] = []
        while (line := self._next_line(is_end=is_end)) is not None:
            if self._ends_event(line):
                events.append(self._take())
        if len(self._buffer) - self._start > self._max_bytes:
            raise SseError(f"an event exceeds {self._max_bytes} bytes")
        self._forget_taken()
        return events

    def _next_line(self, *, is_end: bool) -> bytes | None:
        """Return the next whole line. CR as the last byte waits: LF may follow, and belongs to it."""
        end = _LINE_END.search(self._buffer, self._searched)
        if end is None:
            self._searched = len(self._buffer)
            return None
        if end.end() == len(self._buffer) and end[0] == b"\r" and not is_end:
            self._searched = end.start()
            return None
        line = bytes(self._buffer[self._line : end.start()])
        self._line = self._searched = end.end()
        return line

    def _ends_event(self, line: bytes) -> bool:
        """Tell whether the line ends an event; blank lines and comments before one stand for themselves."""
        if not line or (line.startswith(b":") and not self._has_begun):
            return True
        self._has_begun = True
        name, _, value = line.partition(b":")
        if name:
            self._fields.append((name, value.removeprefix(b" ")))
        return False

    def _take(self) -> SseEvent:
        raw = bytes(self._buffer[self._start : self._line])
        if len(raw) > self._max_bytes:
            raise SseError(f"an event exceeds {self._max_bytes} bytes")
        fields, self._fields = self._fields, []
        self._start, self._has_begun = self._line, False
        return _event(raw, fields)

    def _forget_taken(self) -> None:
        del self._buffer[: self._start]
        self._line -= self._start
        self._searched -= self._start
        self._start = 0


def _event(raw: bytes, fields: list[tuple[bytes, bytes]]) -> SseEvent:
    if not fields:
        return SseEvent(raw)
    try:
        data = b"\n".join(value for name, value in fields if name == b"data").decode()
        ids = [value.decode() for name, value in fields if name == b"id" and b"\0" not in value]
        kinds = [value.decode() for name, value in fields if name == b"event"]
    except UnicodeDecodeError as error:
        raise SseError("an event is not valid UTF-8") from error
    retries = [int(value) for name, value in fields if name == b"retry" and _RETRY.fullmatch(value)]
    return SseEvent(raw, kinds[-1] if kinds else "", data, ids[-1] if ids else None, retries[-1] if retries else None)


def encode_event(data: str, *, event: str = "", id: str | None = None, retry: int | None = None) -> bytes:  # noqa: A002
    """Return the bytes of an event; ValueError for what has no UTF-8, or in `event` and `id` more than one line."""
    if _UNSAFE.search(event) or _UNSAFE.search(id or ""):
        raise ValueError("the type and the id of an event have neither line ends nor NUL")
    lines = [f"event: {event}"] if event else []
    if id is not None:
        lines.append(f"id: {id}")
    if retry is not None:
        lines.append(f"retry: {retry}")
    lines.extend(f"data: {line}" for line in _DATA_LINE_END.split(data))
    return "\n".join([*lines, "", ""]).encode()
