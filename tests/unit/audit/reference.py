"""A second implementation of the canonical form, written from docs/audit.md alone, for stored values."""

import struct
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

TYPES = {
    "format": "int2",
    "http_status": "int2",
    **dict.fromkeys(
        ("seq", "input_bytes", "output_bytes", "duration_us", "upstream_us", "events", "repeats"), "int8"
    ),
    **dict.fromkeys(("writer_id", "execution_id"), "uuid"),
    **dict.fromkeys(("started_at", "completed_at", "last_seen"), "time"),
    **dict.fromkeys(("scopes_required", "scopes_held", "scopes_matched"), "texts"),
    **dict.fromkeys(("input_sha256", "output_sha256"), "bytes"),
}  # fmt: skip
ORDER = [
    "format",
    "kind",
    "writer_id",
    "seq",
    "started_at",
    "execution_id",
    "server",
    "http_method",
    "method",
    "tool",
    "auth_method",
    "issuer",
    "subject",
    "client",
    "agent",
    "asserted_by",
    "audience",
    "scopes_required",
    "scopes_held",
    "scopes_matched",
    "session",
    "protocol_version",
    "trace_id",
    "remote",
    "instance",
    "input",
    "input_bytes",
    "input_sha256",
    "status",
    "decision",
    "reason",
    "http_status",
    "completed_at",
    "duration_us",
    "upstream_us",
    "output",
    "output_bytes",
    "output_sha256",
    "contract",
    "artifact",
    "error",
    "events",
    "hooks",
    "repeats",
    "last_seen",
]


def canonical(row: dict[str, Any]) -> bytes:
    """The canonical form of an entry as a client reads it from the table."""
    return b"".join(field(TYPES.get(name, "text"), row[name]) for name in ORDER)


def field(kind: str, value: Any) -> bytes:
    if value is None:
        return b"\xff\xff\xff\xff"
    raw = encode(kind, value)
    return struct.pack(">i", len(raw)) + raw


def encode(kind: str, value: Any) -> bytes:
    match kind:
        case "int2":
            return struct.pack(">h", value)
        case "int8":
            return struct.pack(">q", value)
        case "uuid":
            return UUID(str(value)).bytes
        case "time":
            at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
            return struct.pack(">q", (at - datetime(2000, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1))
        case "bytes":
            return value if isinstance(value, bytes) else bytes.fromhex(value)
        case "texts" if not value:
            return struct.pack(">iii", 0, 0, 25)
        case "texts":
            return struct.pack(">iiiii", 1, 0, 25, len(value), 1) + b"".join(field("text", each) for each in value)
        case _:
            return value.encode()
