"""Execution ids: UUID version 7 (RFC 9562 §5.7), so that they sort by time."""

import os
from datetime import datetime
from uuid import UUID

from asyncpg.pgproto.pgproto import UUID as FastUUID  # noqa: N811 -- is a uuid.UUID, made, hashed and printed in C


def execution_id(now: datetime) -> UUID:
    """Return a new id for a request that started at `now` (aware)."""
    made = bytearray(int(now.timestamp() * 1000).to_bytes(6, "big") + os.urandom(10))
    made[6] = 0x70 | made[6] & 0x0F
    made[8] = 0x80 | made[8] & 0x3F
    return FastUUID(bytes(made))
