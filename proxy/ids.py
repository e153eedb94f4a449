"""Execution ids: UUID version 7 (RFC 9562 §5.7), so that they sort by time."""

import os
from datetime import datetime
from uuid import UUID


def execution_id(now: datetime) -> UUID:
    """Return a new id for a request that started at `now` (aware)."""
    milliseconds = int(now.timestamp() * 1000)
    random = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80
    value |= 0x7 << 76 | (random >> 68 & 0xFFF) << 64
    value |= 0b10 << 62 | (random & 0x3FFF_FFFF_FFFF_FFFF)
    return UUID(int=value)
