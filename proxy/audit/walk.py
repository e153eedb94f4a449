"""Entries as PostgreSQL sends them in a binary COPY, cut into links without decoding their fields. Pure."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from struct import Struct
from typing import Final
from uuid import UUID

from proxy.audit.canonical import COLUMNS, moment
from proxy.audit.chain import STORED_COLUMNS
from proxy.audit.tuples import COPY_HEADER

_count = Struct(">h").unpack_from
_length = Struct(">i").unpack_from
_int64 = Struct(">q").unpack_from
_FIELDS: Final = range(len(COLUMNS))
_SEQ: Final = COLUMNS.index("seq")
_TUPLE: Final = len(STORED_COLUMNS)


@dataclass(frozen=True, slots=True)
class Link:
    """One entry: its place, what it says of itself, and the hash that its contents have."""

    seq: int
    kind: str
    started_at: datetime
    execution_id: UUID
    prev_hash: bytes
    row_hash: bytes
    computed: bytes


class CopyReader:
    """Feed it the bytes of `COPY (select STORED_COLUMNS …) TO STDOUT (FORMAT binary)`, in pieces of any size."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._begun = False

    def feed(self, data: bytes) -> Iterator[Link]:
        """Yield the links that are complete; raise ValueError for what is not such a stream."""
        self._buffer += data
        if not self._begun:
            if len(self._buffer) < len(COPY_HEADER):
                return
            if not self._buffer.startswith(COPY_HEADER[:11]):
                raise ValueError("not a binary COPY")
            del self._buffer[: len(COPY_HEADER)]
            self._begun = True
        at = 0
        while (cut := _cut(self._buffer, at)) is not None:
            link, at = cut
            yield link
        del self._buffer[:at]


def _cut(data: bytearray, at: int) -> tuple[Link, int] | None:
    """Return the link at a position, and where the next one begins; None when it is not complete, or the end."""
    size = len(data)
    if size < at + 2:
        return None
    (count,) = _count(data, at)
    if count == -1:
        return None
    if count != _TUPLE:
        raise ValueError(f"an entry has {count} fields, expected {_TUPLE}")
    begin = position = at + 2
    starts: list[int] = []
    for _ in _FIELDS:
        starts.append(position)
        if size < position + 4:
            return None
        (length,) = _length(data, position)
        position += 4 + max(length, 0)
    previous = _field(data, position)
    own = _field(data, previous[1]) if previous is not None else None
    if previous is None or own is None:
        return None
    return _link(data, begin, position, starts, previous[0], own[0]), own[1]


def _field(data: bytearray, at: int) -> tuple[bytes, int] | None:
    """Return the hash at a position, of any length, and where the next field begins; None if it is not complete."""
    if len(data) < at + 4:
        return None
    (length,) = _length(data, at)
    end = at + 4 + max(length, 0)
    return (bytes(data[at + 4 : end]), end) if len(data) >= end else None


def _link(  # noqa: PLR0917  where its parts are
    data: bytearray, begin: int, end: int, starts: list[int], prev_hash: bytes, row_hash: bytes
) -> Link:
    kind_at, seq_at = starts[1] + 4, starts[_SEQ] + 4
    started_at, execution_at = starts[_SEQ + 1] + 4, starts[_SEQ + 2] + 4
    return Link(
        seq=_int64(data, seq_at)[0],
        kind=data[kind_at : starts[2]].decode(),
        started_at=moment(_int64(data, started_at)[0]),
        execution_id=UUID(bytes=bytes(data[execution_at : execution_at + 16])),
        prev_hash=prev_hash,
        row_hash=row_hash,
        computed=hashlib.sha256(prev_hash + data[begin:end]).digest(),
    )
