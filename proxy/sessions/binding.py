"""A request and its session: whose it is, which event it resumes after, which question it answers (SPEC S2)."""

from typing import Protocol

from proxy import errors
from proxy.auth.identity import Identity
from proxy.authorize.decision import Decision, Kind
from proxy.call import Call
from proxy.errors import Refusal
from proxy.execution.ends import store_away
from proxy.sessions.events import LAST_EVENT_HEADER, unseal
from proxy.sessions.store import SESSION_HEADER, Session, Sessions, SessionStoreUnavailableError
from proxy.tasks.wire import ABOUT_ONE
from proxy.wire.era import Era
from proxy.wire.fields import index_of
from proxy.wire.jsonrpc import Envelope, EnvelopeKind
from registry.models import Server

UNKNOWN = Refusal("session.unknown", 404, errors.SESSION_UNKNOWN, "unknown session: initialize again without an id")
AGAIN = Refusal("session.again", 400, errors.INVALID_REQUEST, "initialize must not carry a session id")
FOREIGN_EVENT = Refusal(
    "session.event", 400, errors.INVALID_REQUEST, "Last-Event-ID names no event that this session was sent"
)
UNASKED = Refusal(
    "session.unasked", 400, errors.INVALID_REQUEST, "the server has asked nothing of that id, or has its answer already"
)
_RECHECKED = frozenset({"tools/call", "prompts/get", "resources/read"})


class Rules(Protocol):
    """Decides again what was decided when the resumed request was made."""

    def decide(self, identity: Identity, http_method: str, envelope: Envelope | None, era: Era) -> Decision: ...
    def decide_thing(self, identity: Identity, kind: Kind, name: str) -> Decision: ...
    def refusal(self, decision: Decision, era: Era) -> Refusal: ...


async def bind_session(call: Call, server: Server, rules: Rules, sessions: Sessions) -> Refusal | None:
    """A legacy session must be the caller's own; the modern era has none, its header is ignored."""
    if call.era is not Era.LEGACY or call.identity is None:
        return None
    values = index_of(call.headers).get(SESSION_HEADER)
    if values is None:
        return None
    if call.method == "initialize":
        return AGAIN
    try:
        found = await sessions.find(values[0].decode("latin-1"), server, call.identity) if len(values) == 1 else None
    except SessionStoreUnavailableError as error:
        return store_away(error)
    if found is None:
        return UNKNOWN
    call.session, call.session_id = found, found.id
    call.protocol_version = call.protocol_version or found.protocol_version
    return _resume(call, found, rules, call.identity) if call.http_method == "GET" else None


def _resume(call: Call, session: Session, rules: Rules, identity: Identity) -> Refusal | None:
    """Find the place that the client names; the request behind it is authorized again, now."""
    value = call.header(LAST_EVENT_HEADER)
    if not value:
        return None
    call.resumed = unseal(value, session.event_key)
    if call.resumed is None:
        return FOREIGN_EVENT
    origin = call.resumed.origin
    if origin is None:
        return None
    if origin.method in ABOUT_ONE and origin.target is not None:
        call.decision = rules.decide_thing(identity, "tools", origin.target)
    elif origin.method in _RECHECKED:
        call.decision = rules.decide(identity, "POST", origin.envelope(), Era.LEGACY)
    else:
        return None
    return None if call.decision.allowed else rules.refusal(call.decision, Era.LEGACY)


async def expect_answer(call: Call, sessions: Sessions) -> Refusal | None:
    """Refuse a response that the server of the session has not asked for."""
    envelope = call.envelope
    if envelope is None or envelope.kind is not EnvelopeKind.RESPONSE:
        return None
    try:
        session, rpc_id = call.session, envelope.id
        is_asked = session is not None and rpc_id is not None and await sessions.is_asked(session, rpc_id)
    except SessionStoreUnavailableError as error:
        return store_away(error)
    return None if is_asked else UNASKED
