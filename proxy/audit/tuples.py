"""Links as PostgreSQL takes them: as a binary COPY, or as one value of the type `audit_batch`. Pure.

Both are the canonical form. A COPY has it as it is; in a record each field follows the number of its type, which is
the same in every database for PostgreSQL's own types.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Final

from proxy.audit.canonical import COLUMNS, NULL
from proxy.audit.chain import STORED_COLUMNS, Link

COPY_HEADER: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
COPY_TRAILER: Final = b"\xff\xff"

_oid = Struct(">I").pack
_BYTEA: Final = _oid(17)
_TYPES: Final = {
    **dict.fromkeys(COLUMNS, _oid(25)),  # text
    **dict.fromkeys(("format", "http_status"), _oid(21)),  # smallint
    **dict.fromkeys(
        ("seq", "input_bytes", "output_bytes", "duration_us", "upstream_us", "events", "repeats"), _oid(20)
    ),
    **dict.fromkeys(("writer_id", "execution_id"), _oid(2950)),  # uuid
    **dict.fromkeys(("started_at", "completed_at", "last_seen"), _oid(1184)),  # timestamptz
    **dict.fromkeys(("scopes_required", "scopes_held", "scopes_matched"), _oid(1009)),  # text[]
    **dict.fromkeys(("input_sha256", "output_sha256"), _BYTEA),
}

_count = Struct(">h").pack(len(STORED_COLUMNS))
_length = Struct(">i").unpack_from
_hash_length = Struct(">i").pack(32)
_hashes = Struct(">4si32s4si32s").pack
_array = Struct(">iiIii").pack
_record = Struct(">ii").pack
_REQUEST_TYPES: Final = tuple(_TYPES[column] for column in COLUMNS[: COLUMNS.index("status")])
_OUTCOME_TYPES: Final = tuple(_TYPES[column] for column in COLUMNS[COLUMNS.index("status") :])
_BESIDES: Final = 4 + 4 * len(STORED_COLUMNS) + 2 * (4 + 32)  # of a record: number of fields, types, hashes
_NO_OUTCOME: Final = NULL * len(_OUTCOME_TYPES)
_NO_OUTCOME_TYPED: Final = b"".join(kind + NULL for kind in _OUTCOME_TYPES)


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
        parts.append(_record(_BESIDES + len(link.canonical), len(STORED_COLUMNS)))
        _add_typed(parts, link.canonical)
        parts.append(_hashes(_BYTEA, 32, link.prev_hash, _BYTEA, 32, link.row_hash))
    return b"".join(parts)


def _add_typed(parts: list[bytes], canonical: bytes) -> None:
    """Add the fields, each after its type."""
    at = _add_fields(parts, canonical, 0, _REQUEST_TYPES)
    if canonical.endswith(_NO_OUTCOME, at) and len(canonical) == at + len(_NO_OUTCOME):
        parts.append(_NO_OUTCOME_TYPED)
    else:
        _add_fields(parts, canonical, at, _OUTCOME_TYPES)


def _add_fields(parts: list[bytes], canonical: bytes, at: int, types: Sequence[bytes]) -> int:
    for kind in types:
        (length,) = _length(canonical, at)
        end = at + 4 + length if length > 0 else at + 4
        parts.append(kind)
        parts.append(canonical[at:end])
        at = end
    return at
