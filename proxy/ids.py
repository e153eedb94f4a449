"""Execution ids: UUID version 7 (RFC 9562 §5.7), so that they sort by time."""

import os
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg.pgproto.pgproto import UUID as FastUUID  # noqa: N811 -- is a uuid.UUID, made, hashed and printed in C

_RANDOM_BYTES: Final = 10
_AHEAD_BYTES: Final = 4096 * _RANDOM_BYTES
_ahead = bytearray()
"""Random bytes fetched ahead: asking the kernel for ten costs as much as the rest of an id."""
os.register_at_fork(after_in_child=_ahead.clear)


def execution_id(now: datetime) -> UUID:
    """Return a new id for a request that started at `now` (aware)."""
    if not _ahead:
        _ahead.extend(os.urandom(_AHEAD_BYTES))
    made = bytearray(int(now.timestamp() * 1000).to_bytes(6, "big") + _ahead[-_RANDOM_BYTES:])
    del _ahead[-_RANDOM_BYTES:]
    made[6] = 0x70 | made[6] & 0x0F
    made[8] = 0x80 | made[8] & 0x3F
    return FastUUID(bytes(made))
