"""Intents and rows as fields in both forms (`Form`): each field is made once, hashed, and sent. Pure."""

from struct import Struct
from typing import Final, TypeVar
from uuid import UUID

import msgspec

from proxy.audit.canonical import (
    INT64,
    NULL,
    PAYLOAD_BYTES,
    PROSE_BYTES,
    WORD_BYTES,
    array,
    digest,
    microseconds,
    number,
    text,
    time,
    word,
)
from proxy.audit.form import BIGINT, BYTEA, SMALLINT, TEXT, TEXTS, TIME, UUID_, Form, typed
from proxy.audit.record import Intent, Outcome, Payload, Request, Row, Status

K = TypeVar("K")
V = TypeVar("V")

SCOPE_LIMIT: Final = 512
REMEMBERED: Final = 4096
REMEMBERED_BYTES: Final = 512
INTENDED_BYTES: Final = 8192


_int16 = Struct(">ih").pack
_moment = Struct(">iqi16s").pack
_typed_moment = Struct(">4siq4si16s").pack
_spans = Struct(">iqiqiq").pack
_typed_spans = Struct(">4siq4siq4siq").pack

_ASKED: Final = (TEXT,) * 11 + (TEXTS,) * 3
_SAID: Final = (TEXT, TEXT, TEXT, SMALLINT)
_ENDED: Final = (TIME, BIGINT, BIGINT)
_PAYLOAD: Final = (TEXT, BIGINT, BYTEA)
_TIMES: Final = (BIGINT, TIME)
_NOTED: Final = (TEXT, TEXT, TEXT, BIGINT, TEXT)
_NO_PAYLOAD: Final = (NULL, NULL, NULL)
_ONCE: Final = typed(_TIMES, (number(1), NULL))
_NO_OUTCOME_TYPES: Final = (*_SAID, *_ENDED, *_PAYLOAD, *_NOTED, *_TIMES)
_NO_OUTCOME: Final = typed(_NO_OUTCOME_TYPES, (NULL,) * len(_NO_OUTCOME_TYPES))


class Encoder:
    """Encodes the fields from `started_at` on; remembers short words that come again and again.

    What is remembered is bounded in number and length, because callers choose most of it.
    """

    def __init__(self, instance: str) -> None:
        self._words: dict[str | None, bytes] = {}
        self._scope_lists: dict[tuple[str, ...], bytes] = {}
        self._asked: dict[tuple[object, ...], Form] = {}
        self._said: dict[tuple[Status, str, str, int], Form] = {}
        self._intended: dict[UUID, tuple[Request, Form]] = {}
        self._instance = word(instance)

    def intent(self, intent: Intent) -> Form:
        """Encode an intent, and remember it for the row that follows."""
        made = self._request(intent.request)
        if len(made.plain) <= INTENDED_BYTES:
            if len(self._intended) >= REMEMBERED:
                del self._intended[next(iter(self._intended))]
            self._intended[intent.request.execution_id] = (intent.request, made)
        return Form(made.plain + _NO_OUTCOME.plain, made.typed + _NO_OUTCOME.typed)

    def row(self, row: Row) -> Form:
        request = row.request
        known = self._intended.pop(request.execution_id, None)
        made = known[1] if known is not None and known[0] is request else self._request(request)
        ended = self._outcome(row.outcome)
        return Form(made.plain + ended.plain, made.typed + ended.typed)

    def _request(self, request: Request) -> Form:
        word = self._word
        what = (request.server, request.http_method, request.method, request.tool, request.subject)
        asked = (*what, request.audience, request.scopes)
        begun, execution_id = microseconds(request.started), request.execution_id.bytes
        known = self._asked.get(asked) or self._remember(asked, request)
        session, version, remote = word(request.session), word(request.protocol_version), word(request.remote)
        trace = NULL if request.trace_id is None else text(request.trace_id, WORD_BYTES)
        instance = self._instance
        content, size, sha256 = _payload(request.input)
        return Form(
            b"".join((
                _moment(8, begun, 16, execution_id), known.plain, session, version, trace, remote, instance,
                content, size, sha256,
            )),
            (
                _typed_moment(TIME, 8, begun, UUID_, 16, execution_id), *known.typed,
                TEXT, session, TEXT, version, TEXT, trace, TEXT, remote, TEXT, instance,
                TEXT, content, BIGINT, size, BYTEA, sha256,
            ),
        )  # fmt: skip

    def _remember(self, asked: tuple[object, ...], request: Request) -> Form:
        """Encode what is the same in every call of a caller to a tool."""
        word, scopes = self._word, self._scopes_of
        who, need = request.subject, request.scopes
        fields = (
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
        made = typed(_ASKED, fields)
        return _remembered(self._asked, asked, made, len(made.plain), WORD_BYTES)  # so short that no word was cut

    def _outcome(self, outcome: Outcome) -> Form:
        said = (outcome.status, outcome.decision, outcome.reason, outcome.http_status)
        known = self._said.get(said) or self._remember_said(said)
        ended = _ended(outcome)
        content, size, sha256 = _payload(outcome.output)
        contract, artifact = self._word(outcome.contract), self._word(outcome.artifact)
        error = NULL if outcome.error is None else text(outcome.error, PROSE_BYTES)
        events = NULL if outcome.events is None else number(outcome.events)
        hooks = _hooks(outcome.hooks) if outcome.hooks else NULL
        times = _ONCE if outcome.repeats == 1 and outcome.last_seen is None else _repeated(outcome)
        return Form(
            b"".join((
                known.plain, ended.plain, content, size, sha256, contract, artifact, error, events, hooks, times.plain,
            )),
            (
                *known.typed, *ended.typed, TEXT, content, BIGINT, size, BYTEA, sha256,
                TEXT, contract, TEXT, artifact, TEXT, error, BIGINT, events, TEXT, hooks, *times.typed,
            ),
        )  # fmt: skip

    def _remember_said(self, said: tuple[Status, str, str, int]) -> Form:
        """Encode what is the same in every call that ends in the same way."""
        status, decision, reason, http_status = said
        made = typed(_SAID, (_STATUS[status], word(decision), text(reason, PROSE_BYTES), _int16(2, http_status)))
        return _remembered(self._said, said, made, len(made.plain), 4 * REMEMBERED_BYTES)

    def _word(self, value: str | None) -> bytes:
        known = self._words.get(value)
        if known is not None:
            return known
        made = word(value)
        return _remembered(self._words, value, made, len(made), REMEMBERED_BYTES)

    def _scopes_of(self, values: tuple[str, ...]) -> bytes:
        known = self._scope_lists.get(values)
        if known is not None:
            return known
        made = _scopes(values)
        return _remembered(self._scope_lists, values, made, len(made), REMEMBERED_BYTES)


def _payload(value: Payload | None) -> tuple[bytes, bytes, bytes]:
    """Return the three fields of a snapshot."""
    if value is None:
        return _NO_PAYLOAD
    return text(value.text, PAYLOAD_BYTES), number(value.size), digest(value.sha256)


def _ended(outcome: Outcome) -> Form:
    """Return when it ended, how long it took, and how long the server had it."""
    took, upstream = outcome.duration_us, outcome.upstream_us
    if upstream is not None and 0 <= took <= INT64 and 0 <= upstream <= INT64:
        at = microseconds(outcome.completed)
        spans = _typed_spans(TIME, 8, at, BIGINT, 8, took, BIGINT, 8, upstream)
        return Form(_spans(8, at, 8, took, 8, upstream), (spans,))
    return typed(_ENDED, (time(outcome.completed), number(took), number(upstream)))


def _repeated(outcome: Outcome) -> Form:
    return typed(_TIMES, (number(outcome.repeats), time(outcome.last_seen)))


def _remembered(known: dict[K, V], key: K, made: V, size: int, most_bytes: int) -> V:
    if size <= most_bytes:
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


_STATUS: Final = {status: word(status.value) for status in Status}
