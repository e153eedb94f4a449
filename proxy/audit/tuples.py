"""Links as PostgreSQL takes them: as a binary COPY, or as one value of the type `audit_batch`. Pure."""

from collections.abc import Sequence
from struct import Struct
from typing import Final

from proxy.audit.chain import STORED_COLUMNS, Link
from proxy.audit.form import BIGINT, BYTEA

COPY_HEADER: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
COPY_TRAILER: Final = b"\xff\xff"

_count = Struct(">h").pack(len(STORED_COLUMNS))
_hash_length = Struct(">i").pack(32)
_hashes = Struct(">4si32s4si32s").pack
_array = Struct(">iiIii").pack
_record = Struct(">ii").pack
_seq = Struct(">4siq").pack
_BESIDES_FIELDS: Final = 4 + 4 * len(STORED_COLUMNS)  # of a record: their number, and their types
_HASHES_BYTES: Final = 2 * (4 + 32)


def copied(links: Sequence[Link]) -> bytearray:
    """Return a whole binary COPY; asyncpg takes `bytes` for the name of a file."""
    parts = [COPY_HEADER]
    for link in links:
        parts += (_count, link.canonical, _hash_length, link.prev_hash, _hash_length, link.row_hash)
    parts.append(COPY_TRAILER)
    return bytearray().join(parts)


def batched(links: Sequence[Link], record_type: int) -> bytes:
    """Return an array of records in the form of array_recv; `record_type` is the oid of the type `audit_link`."""
    parts = [_array(1, 0, record_type, len(links), 1)]
    for link in links:
        parts += (
            _record(_BESIDES_FIELDS + len(link.canonical) + _HASHES_BYTES, len(STORED_COLUMNS)),
            *link.opening.typed,
            _seq(BIGINT, 8, link.seq),
            *link.entry.typed,
            _hashes(BYTEA, 32, link.prev_hash, BYTEA, 32, link.row_hash),
        )
    return b"".join(parts)
