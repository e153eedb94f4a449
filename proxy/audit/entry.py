"""One entry on its way into the chain, and the truth about those that came too late."""

import asyncio
import struct
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from proxy.audit.canonical import Encoder
from proxy.audit.chain import Kind
from proxy.audit.errors import AuditUnavailable
from proxy.audit.record import Intent, Outcome, Payload, Request, Row, Status, Subject

UNAVAILABLE: Final = "audit.unavailable"
_MINIMAL_CHARS: Final = 128
_UNENCODABLE: Final = (struct.error, TypeError, ValueError, AttributeError, OverflowError)


class Entry(Struct, eq=False):
    """Waits for its commit; `done` is None when nobody waits, `deadline` is of the loop's clock.

    `is_patient`: kept over an outage until the deadline. `is_abandoned`: its waiter was told that it failed.
    """

    kind: Kind
    record: Intent | Row
    body: bytes
    done: asyncio.Future[None] | None
    deadline: float
    is_patient: bool
    is_minimal: bool = False
    is_abandoned: bool = False

    @property
    def execution_id(self) -> UUID:
        return self.record.request.execution_id

    def settle(self) -> None:
        """Release the waiter: the entry is durable."""
        if self.done is not None and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: AuditUnavailable) -> None:
        """Tell the waiter that the entry is not known to be durable."""
        if self.done is not None and not self.done.done():
            self.done.set_exception(error)

    def reduce(self, encoder: Encoder, record: Intent | Row) -> None:
        """Write `record` in its place."""
        self.body = _encode(encoder, record)
        self.is_minimal = True


def encode_entry(
    encoder: Encoder, record: Intent | Row, done: asyncio.Future[None] | None, deadline: float, *, is_patient: bool
) -> Entry:
    """Return the entry of a record; of one that cannot be encoded, the entry of its reduced form.

    Raises AuditUnavailable when not even that can be encoded.
    """
    kind: Kind = "intent" if isinstance(record, Intent) else "row"
    try:
        return Entry(kind, record, _encode(encoder, record), done, deadline, is_patient)
    except _UNENCODABLE as error:
        reduced = _encode_reduced(encoder, record, type(error).__name__)
        return Entry(kind, record, reduced, done, deadline, is_patient, is_minimal=True)


def _encode(encoder: Encoder, record: Intent | Row) -> bytes:
    return encoder.intent(record) if isinstance(record, Intent) else encoder.row(record)


def _encode_reduced(encoder: Encoder, record: Intent | Row, why: str) -> bytes:
    try:
        return _encode(encoder, minimal(record, why))
    except _UNENCODABLE as error:
        raise AuditUnavailable(f"the record cannot be encoded: {error!r}") from error


def minimal(record: Intent | Row, why: str) -> Intent | Row:
    """Return what cannot be refused and is still true: ids, server, status, times, sizes and digests."""
    request = record.request
    bare = Request(
        execution_id=request.execution_id,
        server=_plain(request.server),
        started=request.started,
        http_method=_plain(request.http_method),
        method=_plain(request.method) if request.method is not None else None,
        subject=Subject(_plain(request.subject.auth_method)),
        input=_digest_only(request.input),
    )
    if isinstance(record, Intent):
        return Intent(bare)
    ended = record.outcome
    reason = f"the full row cannot be stored ({why}); this one is reduced"
    outcome = Outcome(
        status=ended.status,
        decision=_plain(ended.decision),
        reason=reason,
        http_status=ended.http_status if 100 <= ended.http_status <= 599 else 500,
        completed=ended.completed,
        duration_us=max(ended.duration_us, 0),
        upstream_us=ended.upstream_us,
        output=_digest_only(ended.output),
    )
    return Row(bare, outcome)


def owed(record: Intent | Row, now: datetime) -> Row:
    """Return the late row of a request whose caller was told that it cannot be recorded."""
    if isinstance(record, Intent):
        reason = "the intent could not be committed in time; the request was not forwarded"
        passed = round((now - record.request.started).total_seconds() * 1_000_000)
        return Row(record.request, Outcome(Status.FAILED, UNAVAILABLE, reason, 503, now, max(passed, 0)))
    was = record.outcome
    told = f"the row could not be committed in time, the caller was told 503; withheld: {was.status} {was.http_status}"
    outcome = replace(
        was,
        status=was.status if was.status in {Status.DENIED, Status.CANCELLED} else Status.FAILED,
        decision=was.decision if was.status is Status.DENIED else UNAVAILABLE,
        reason=f"{told} {was.decision}: {was.reason}",
        http_status=503,
    )
    return Row(record.request, outcome)


def _plain(value: str) -> str:
    return value.encode("ascii", "backslashreplace").decode()[:_MINIMAL_CHARS]


def _digest_only(payload: Payload | None) -> Payload | None:
    if payload is None or len(payload.sha256) != 32:
        return None
    return replace(payload, text=None)
