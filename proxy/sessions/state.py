"""What a successful request changes in its session, apart from its row."""

from typing import Any

from proxy.call import Call
from proxy.sessions.live import Live
from proxy.sessions.store import Session, Sessions
from proxy.wire.jsonrpc import Envelope, EnvelopeKind

_REMEMBERED = {"logging/setLevel": "level", "resources/subscribe": "uri", "resources/unsubscribe": "uri"}


async def keep_state(call: Call, sessions: Sessions, live: Live) -> None:
    """The server has accepted a request of a session: keep what has to outlive this moment."""
    session, envelope = call.session, call.envelope
    if session is None:
        return
    if call.http_method == "DELETE":
        await sessions.end(session)
    elif envelope is not None and envelope.kind is EnvelopeKind.RESPONSE and envelope.id is not None:
        await sessions.forget_question(session, envelope.id)
    elif envelope is not None and envelope.method is not None:
        await _keep_of(envelope, envelope.method, session, sessions, live)


async def _keep_of(envelope: Envelope, method: str, session: Session, sessions: Sessions, live: Live) -> None:
    params: dict[str, Any] = envelope.params or {}
    value: object = params.get(_REMEMBERED[method]) if method in _REMEMBERED else None
    if isinstance(value, str):
        await sessions.remember(session, method, value)
    elif method == "notifications/cancelled":
        cancelled: object = params.get("requestId")
        if isinstance(cancelled, int | str):
            live.cancel(session.id, cancelled)
