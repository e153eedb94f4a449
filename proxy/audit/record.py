"""What is written about a request: an intent before dispatch, one row when it has ended (SPEC A3, A5).

Structs, because every call makes a dozen of them: a frozen dataclass takes ten times as long to make. They hold no
cycles, so that the garbage collector need not look at them.
"""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from msgspec import Struct


class Status(StrEnum):
    """How a request ended."""

    SUCCESS = "success"
    TOOL_ERROR = "tool_error"
    FAILED = "failed"
    DENIED = "denied"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


class Payload(Struct, frozen=True, gc=False):
    """A redacted, capped snapshot as JSON text; size in bytes and SHA-256 are of the whole original."""

    text: str | None
    size: int
    sha256: bytes


class Subject(Struct, frozen=True, gc=False, cache_hash=True):
    """Who asked, and by which proof."""

    auth_method: str = "none"
    issuer: str | None = None
    subject: str | None = None
    client: str | None = None
    agent: str | None = None
    asserted_by: str | None = None


class Scopes(Struct, frozen=True, gc=False, cache_hash=True):
    """What was needed, what was held, and which held scopes satisfied the need."""

    required: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    matched: tuple[str, ...] = ()


class Request(Struct, frozen=True, gc=False):
    """What is known of a request before it is dispatched; `started` is aware UTC and equal in intent and row."""

    execution_id: UUID
    server: str
    started: datetime
    http_method: str
    method: str | None = None
    tool: str | None = None
    subject: Subject = Subject()
    audience: str | None = None
    scopes: Scopes = Scopes()
    session: str | None = None
    protocol_version: str | None = None
    trace_id: str | None = None
    remote: str | None = None
    input: Payload | None = None


class Outcome(Struct, frozen=True, gc=False):
    """How it ended. `decision` is the stable code of the decision or refusal, `reason` its sentence."""

    status: Status
    decision: str
    reason: str
    http_status: int
    completed: datetime
    duration_us: int
    upstream_us: int | None = None
    output: Payload | None = None
    contract: str | None = None
    artifact: str | None = None
    error: str | None = None
    events: int | None = None
    hooks: tuple[dict[str, object], ...] = ()
    repeats: int = 1
    last_seen: datetime | None = None


class Intent(Struct, frozen=True, gc=False):
    """Durable before a call is forwarded or a stream's first byte leaves."""

    request: Request


class Row(Struct, frozen=True, gc=False):
    """The one row of a request."""

    request: Request
    outcome: Outcome
