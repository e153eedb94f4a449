"""Execution ids: UUID version 7 (RFC 9562 §5.7), so that they sort by time."""

import os
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg.pgproto.pgproto import UUID as FastUUID  # noqa: N811 -- is a uuid.UUID, made, hashed and printed in C

_RANDOM_BYTES: Final = 10
_AHEAD: Final = 1024
_ahead: list[bytes] = []
"""Random bytes for ids to come: asking the kernel each time costs as much as the rest of an id."""
os.register_at_fork(after_in_child=_ahead.clear)


def execution_id(now: datetime) -> UUID:
    """Return a new id for a request that started at `now` (aware)."""
    made = bytearray(int(now.timestamp() * 1000).to_bytes(6, "big") + _random())
    made[6] = 0x70 | made[6] & 0x0F
    made[8] = 0x80 | made[8] & 0x3F
    return FastUUID(bytes(made))


def _random() -> bytes:
    """Return bytes that no other caller gets, in no other thread either: a list gives each of its items once."""
    try:
        return _ahead.pop()
    except IndexError:
        block = os.urandom(_AHEAD * _RANDOM_BYTES)
        _ahead.extend(block[at : at + _RANDOM_BYTES] for at in range(_RANDOM_BYTES, len(block), _RANDOM_BYTES))
        return block[:_RANDOM_BYTES]
