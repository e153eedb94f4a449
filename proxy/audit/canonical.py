"""The canonical form: what PostgreSQL stores is what the chain hashes (docs/audit.md, "Canonical form").

The canonical form of an entry is the fields of PostgreSQL's binary COPY tuple in the order of `COLUMNS`: for each a
4-byte big-endian length and the value, or FF FF FF FF for NULL. Pure.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import Final
from uuid import UUID

FORMAT: Final = 1
COLUMNS: Final = (
    *("format", "kind", "writer_id", "seq"),
    *("started_at", "execution_id", "server", "http_method", "method", "tool"),
    *("auth_method", "issuer", "subject", "client", "agent", "asserted_by", "audience"),
    *("scopes_required", "scopes_held", "scopes_matched"),
    *("session", "protocol_version", "trace_id", "remote", "instance"),
    *("input", "input_bytes", "input_sha256"),
    *("status", "decision", "reason", "http_status", "completed_at", "duration_us", "upstream_us"),
    *("output", "output_bytes", "output_sha256"),
    *("contract", "artifact", "error", "events", "hooks", "repeats", "last_seen"),
)

WORD_BYTES: Final = 1024
PROSE_BYTES: Final = 8192
PAYLOAD_BYTES: Final = 8 * 1024 * 1024
INT64: Final = 2**63 - 1

NULL: Final = b"\xff\xff\xff\xff"
_TEXT_OID: Final = 25
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

_length = Struct(">i").pack
_int64 = Struct(">iq").pack
_array_head = Struct(">iiiii").pack
_NO_TEXTS: Final = _length(12) + Struct(">iii").pack(0, 0, _TEXT_OID)


def word(value: str | None) -> bytes:
    """Return the field of a short text."""
    return text(value, WORD_BYTES)


def text(value: str | None, limit: int) -> bytes:
    r"""Return the field of a text of at most `limit` bytes; what PostgreSQL refuses (NUL, surrogates) as \u escapes."""
    if value is None:
        return NULL
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        raw = value.encode(errors="backslashreplace")
    if b"\0" in raw:
        raw = raw.replace(b"\0", rb"\u0000")
    if len(raw) > limit:
        raw = _cut(raw, limit)
    return _length(len(raw)) + raw


def number(value: int | None) -> bytes:
    """Return the field of a count or a duration; what does not fit 64 bits becomes the nearest that does."""
    if value is None:
        return NULL
    return _int64(8, value if 0 <= value <= INT64 else min(max(value, 0), INT64))


def microseconds(moment: datetime) -> int:
    """Return PostgreSQL's count of microseconds since 2000-01-01 UTC; `moment` must be aware."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def moment(count: int) -> datetime:
    """Undo `microseconds`."""
    return _EPOCH + count * _MICROSECOND


def time(value: datetime | None) -> bytes:
    """Return the field of a moment."""
    return NULL if value is None else _int64(8, microseconds(value))


def digest(value: bytes) -> bytes:
    """Return the field of bytes as they are."""
    return _length(len(value)) + value


def uuid_field(value: UUID) -> bytes:
    return _length(16) + value.bytes


def array(values: Iterable[str], limit: int) -> bytes:
    """Return a text[] as array_send makes it; one dimension from 1."""
    fields = [text(value, limit) for value in values]
    if not fields:
        return _NO_TEXTS
    body = _array_head(1, 0, _TEXT_OID, len(fields), 1) + b"".join(fields)
    return _length(len(body)) + body


def _cut(raw: bytes, limit: int) -> bytes:
    mark = "…".encode()
    return raw[: limit - len(mark)].decode(errors="ignore").encode() + mark
