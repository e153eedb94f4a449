"""Intents and rows as bytes: what PostgreSQL stores is what the chain hashes (docs/audit.md, "Canonical form").

The canonical form of an entry is the fields of PostgreSQL's binary COPY tuple in the order of `COLUMNS`: for each a
4-byte big-endian length and the value, or FF FF FF FF for NULL. It is made once, sent, and hashed. Pure.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import Final, TypeVar
from uuid import UUID

import msgspec

from proxy.audit.record import Intent, Outcome, Payload, Request, Row, Status

K = TypeVar("K")

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
OUTCOME_COLUMNS: Final = len(COLUMNS) - COLUMNS.index("status")

WORD_BYTES: Final = 1024
PROSE_BYTES: Final = 8192
PAYLOAD_BYTES: Final = 8 * 1024 * 1024
SCOPE_LIMIT: Final = 512
REMEMBERED: Final = 4096
REMEMBERED_BYTES: Final = 512
INTENDED_BYTES: Final = 8192

NULL: Final = b"\xff\xff\xff\xff"
_TEXT_OID: Final = 25
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_FIRST: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LAST: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_INT64: Final = 2**63 - 1

_length = Struct(">i").pack
_int16 = Struct(">ih").pack
_int64 = Struct(">iq").pack
_int64s = Struct(">iqiqiq").pack
_key = Struct(">iqi16s").pack
_sizes = Struct(">iqi").pack
_array_head = Struct(">iiiii").pack
_NO_SCOPES: Final = _length(12) + Struct(">iii").pack(0, 0, _TEXT_OID)
_NO_PAYLOAD: Final = NULL * 3
_ONCE: Final = _int64(8, 1) + NULL
_NO_OUTCOME: Final = NULL * OUTCOME_COLUMNS


class Encoder:
    """Encodes the fields from `started_at` on; remembers short words that come again and again.

    What is remembered is bounded in number and length, because callers choose most of it.
    """

    def __init__(self, instance: str) -> None:
        self._words: dict[str | None, bytes] = {}
        self._scope_lists: dict[tuple[str, ...], bytes] = {}
        self._asked: dict[tuple[object, ...], bytes] = {}
        self._said: dict[tuple[Status, str, str, int], bytes] = {}
        self._intended: dict[UUID, tuple[Request, bytes]] = {}
        self._instance = word(instance)

    def intent(self, intent: Intent) -> bytes:
        """Encode an intent, and remember it for the row that follows."""
        made = self._request(intent.request)
        if len(made) <= INTENDED_BYTES:
            if len(self._intended) >= REMEMBERED:
                del self._intended[next(iter(self._intended))]
            self._intended[intent.request.execution_id] = (intent.request, made)
        return made + _NO_OUTCOME

    def row(self, row: Row) -> bytes:
        request = row.request
        known = self._intended.pop(request.execution_id, None)
        made = known[1] if known is not None and known[0] is request else self._request(request)
        return made + self._outcome(row.outcome)

    def _request(self, request: Request) -> bytes:
        word = self._word
        what = (request.server, request.http_method, request.method, request.tool, request.subject)
        asked = (*what, request.audience, request.scopes)
        return b"".join(
            (
                _key(8, microseconds(request.started), 16, request.execution_id.bytes),
                self._asked.get(asked) or self._remember(asked, request),
                word(request.session),
                word(request.protocol_version),
                NULL if request.trace_id is None else text(request.trace_id, WORD_BYTES),
                word(request.remote),
                self._instance,
                payload(request.input),
            )
        )

    def _remember(self, asked: tuple[object, ...], request: Request) -> bytes:
        """Encode what is the same in every call of a caller to a tool."""
        word, scopes = self._word, self._scopes_of
        who, need = request.subject, request.scopes
        made = b"".join(
            (
                word(request.server),
                word(request.http_method),
                word(request.method),
                word(request.tool),
                word(who.auth_method),
                word(who.issuer),
                word(who.subject),
                word(who.client),
                word(who.agent),
                word(who.asserted_by),
                word(request.audience),
                scopes(need.required),
                scopes(need.held),
                scopes(need.matched),
            )
        )
        return _remembered(self._asked, asked, made, WORD_BYTES)  # so short that no word of the key was cut

    def _outcome(self, outcome: Outcome) -> bytes:
        word = self._word
        said = (outcome.status, outcome.decision, outcome.reason, outcome.http_status)
        return b"".join(
            (
                self._said.get(said) or self._remember_said(said),
                _times(outcome),
                payload(outcome.output),
                word(outcome.contract),
                word(outcome.artifact),
                NULL if outcome.error is None else text(outcome.error, PROSE_BYTES),
                NULL if outcome.events is None else number(outcome.events),
                _hooks(outcome.hooks) if outcome.hooks else NULL,
                _ONCE if outcome.repeats == 1 and outcome.last_seen is None else _repeated(outcome),
            )
        )

    def _remember_said(self, said: tuple[Status, str, str, int]) -> bytes:
        """Encode what is the same in every call that ends in the same way."""
        status, decision, reason, http_status = said
        fields = (_STATUS[status], word(decision), text(reason, PROSE_BYTES), _int16(2, http_status))
        return _remembered(self._said, said, b"".join(fields), 4 * REMEMBERED_BYTES)

    def _word(self, value: str | None) -> bytes:
        known = self._words.get(value)
        return known if known is not None else _remembered(self._words, value, word(value))

    def _scopes_of(self, values: tuple[str, ...]) -> bytes:
        known = self._scope_lists.get(values)
        return known if known is not None else _remembered(self._scope_lists, values, _scopes(values))


def _times(outcome: Outcome) -> bytes:
    """Return the three fields of when it ended, how long it took, and how long the server had it."""
    took, upstream = outcome.duration_us, outcome.upstream_us
    if upstream is not None and 0 <= took <= _INT64 and 0 <= upstream <= _INT64:
        return _int64s(8, microseconds(outcome.completed), 8, took, 8, upstream)
    return _int64(8, microseconds(outcome.completed)) + number(took) + number(upstream)


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
    return NULL if value is None else _int64(8, min(max(value, 0), _INT64))


def payload(value: Payload | None) -> bytes:
    """Return the three fields of a snapshot."""
    if value is None:
        return _NO_PAYLOAD
    sizes = _sizes(8, value.size, len(value.sha256)) if 0 <= value.size <= _INT64 else None
    if sizes is None:
        sizes = number(value.size) + _length(len(value.sha256))
    return b"".join((text(value.text, PAYLOAD_BYTES), sizes, value.sha256))


def microseconds(moment: datetime) -> int:
    """Return PostgreSQL's count of microseconds since 2000-01-01 UTC; `moment` must be aware."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def moment(count: int) -> datetime:
    """Undo `microseconds`; what a datetime cannot hold, infinity among it, becomes the nearest that it can."""
    return _EPOCH + min(max(count, _FIRST), _LAST) * _MICROSECOND


def uuid_field(value: UUID) -> bytes:
    return _length(16) + value.bytes


def array(values: Iterable[str], limit: int) -> bytes:
    """Return a text[] as array_send makes it; one dimension from 1."""
    fields = [text(value, limit) for value in values]
    if not fields:
        return _NO_SCOPES
    body = _array_head(1, 0, _TEXT_OID, len(fields), 1) + b"".join(fields)
    return _length(len(body)) + body


def _remembered(known: dict[K, bytes], key: K, made: bytes, most_bytes: int = REMEMBERED_BYTES) -> bytes:
    if len(made) <= most_bytes:
        if len(known) >= REMEMBERED:
            known.clear()
        known[key] = made
    return made


def _scopes(values: tuple[str, ...]) -> bytes:
    shown = values if len(values) <= SCOPE_LIMIT else (*values[: SCOPE_LIMIT - 1], "…")
    return array(shown, SCOPE_LIMIT)


def _hooks(values: tuple[dict[str, object], ...]) -> bytes:
    if not values:
        return NULL
    try:
        made = msgspec.json.encode(values, enc_hook=str).decode()
    except (UnicodeEncodeError, ValueError, RecursionError) as error:
        made = f'[{{"unencodable":"{type(error).__name__}"}}]'
    return text(made, PAYLOAD_BYTES)


def _repeated(outcome: Outcome) -> bytes:
    last = NULL if outcome.last_seen is None else _int64(8, microseconds(outcome.last_seen))
    return number(outcome.repeats) + last


def _cut(raw: bytes, limit: int) -> bytes:
    mark = "…".encode()
    return raw[: limit - len(mark)].decode(errors="ignore").encode() + mark


_STATUS: Final = {status: word(status.value) for status in Status}
