"""Links as PostgreSQL takes them: as a binary COPY, or as one value of the type `audit_batch`. Pure.

Both hold the same fields. A COPY has the bytes that the chain hashes, as they are; in an array of records each field
has the number of its type in front of it.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Final

from proxy.audit.chain import STORED_COLUMNS, Linked

COPY_HEADER: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
COPY_TRAILER: Final = b"\xff\xff"
TYPES: Final = {
    **dict.fromkeys(STORED_COLUMNS, 25),  # text
    **dict.fromkeys(("format", "http_status"), 21),  # smallint
    **dict.fromkeys(("seq", "input_bytes", "output_bytes", "duration_us", "upstream_us", "events", "repeats"), 20),
    **dict.fromkeys(("writer_id", "execution_id"), 2950),
    **dict.fromkeys(("started_at", "completed_at", "last_seen"), 1184),
    **dict.fromkeys(("scopes_required", "scopes_held", "scopes_matched"), 1009),
    **dict.fromkeys(("input_sha256", "output_sha256", "prev_hash", "row_hash"), 17),
}

_columns = Struct(">h").pack(len(STORED_COLUMNS))
_array_head = Struct(">iiIii").pack
_record_head = Struct(">ii").pack
_type = Struct(">I").pack
_SLOTS: Final = [slot for column in STORED_COLUMNS for slot in (_type(TYPES[column]), b"")]
_TYPES_BYTES: Final = 4 + 4 * len(STORED_COLUMNS)


def copied(links: Sequence[Linked]) -> bytearray:
    """Return a whole binary COPY; asyncpg takes `bytes` for the name of a file."""
    parts = [COPY_HEADER]
    for link in links:
        parts += (_columns, link.joined)
    parts.append(COPY_TRAILER)
    return bytearray().join(parts)


def batched(links: Sequence[Linked], record_type: int) -> bytes:
    """Return an array of records in the form of array_recv; `record_type` is the oid of the type `audit_link`."""
    parts = [_array_head(1, 0, record_type, len(links), 1)]
    for link in links:
        slots = _SLOTS.copy()
        slots[1::2] = link.fields
        parts.append(_record_head(_TYPES_BYTES + len(link.joined), len(STORED_COLUMNS)))
        parts += slots
    return b"".join(parts)
