"""HTTP of the handshake era (2024-11-05 … 2025-11-25): sessions, a standing stream, resumption."""

import asyncio
from typing import Final

from proxy.bridge.exchange import Exchange, failure_of
from proxy.bridge.frames import JsonObject, render_message
from proxy.bridge.link import EXITED, ask
from proxy.bridge.modern import PRINCIPAL_HEADER
from proxy.bridge.replies import Answer, Answering, Failure, send_json, wait_for_disconnect
from proxy.bridge.residents import SILENT
from proxy.bridge.sessions import ENDED, Session, Sessions
from proxy.bridge.stream import parse_event_id
from proxy.errors import INVALID_REQUEST
from proxy.wire.era import Era
from proxy.wire.headers import check_headers
from proxy.wire.jsonrpc import Envelope, EnvelopeKind

SESSION_HEADER: Final = b"mcp-session-id"
_PRIMED_SINCE: Final = "2025-11-25"
_PING_S: Final = 15.0
_METHODS: Final = Failure(405, INVALID_REQUEST, "only GET, POST, DELETE", headers=((b"allow", b"GET, POST, DELETE"),))
_NO_SESSION: Final = Failure(400, INVALID_REQUEST, "Bad Request: Missing session ID")
_NO_EVENTS: Final = Failure(406, INVALID_REQUEST, "Accept must have text/event-stream")
_NO_EVENT: Final = Failure(400, INVALID_REQUEST, "Last-Event-ID names no event of this session")


class LegacyEndpoint:
    """Answers the requests of this era through the sessions.

    `events_after_s`: an answer that takes longer becomes an event stream, which a client that loses its connection can
    resume; `poll_s`: such a stream is closed after that much silence, and the client comes back (SEP-1699).
    """

    def __init__(
        self, sessions: Sessions, *, start_timeout_s: float, events_after_s: float, poll_s: float | None
    ) -> None:
        self._sessions = sessions
        self._start_timeout_s = start_timeout_s
        self._events_after_s = events_after_s
        self._poll_s = poll_s

    async def answer(self, exchange: Exchange) -> None:
        """Answer whatever is not a POST."""
        match exchange.method:
            case "GET":
                await self._get(exchange)
            case "DELETE":
                await self._delete(exchange)
            case _:
                await exchange.refuse(_METHODS)

    async def post(self, exchange: Exchange, envelope: Envelope) -> None:
        fault = check_headers(exchange.headers, envelope, Era.LEGACY)
        is_initialize = envelope.kind is EnvelopeKind.REQUEST and envelope.method == "initialize"
        if fault is not None:
            await exchange.refuse(failure_of(fault))
        elif is_initialize and not exchange.values(SESSION_HEADER):
            await self._initialize(exchange, envelope.message)
        else:
            await self._pass_on(exchange, envelope)

    async def _pass_on(self, exchange: Exchange, envelope: Envelope) -> None:
        session = self._session(exchange)
        if isinstance(session, Failure):
            await exchange.refuse(session)
            return
        match envelope.kind:
            case EnvelopeKind.REQUEST:
                await self._call(exchange, session, envelope.message)
            case EnvelopeKind.NOTIFICATION:
                session.take_notification(envelope.message)
                await exchange.accept()
            case EnvelopeKind.RESPONSE:
                session.take_answer(envelope.message)
                await exchange.accept()

    async def _initialize(self, exchange: Exchange, message: JsonObject) -> None:
        session = await self._sessions.open(exchange.values(PRINCIPAL_HEADER))
        if isinstance(session, Failure):
            await exchange.refuse(session)
            return
        answer = await self._first_answer(exchange, session, message)
        if isinstance(answer, dict) and session.establish(answer):
            await send_json(exchange.send, 200, render_message(answer), _session_header(session))
            return
        self._sessions.end(session)
        if isinstance(answer, Failure):
            await exchange.refuse(answer)
        elif answer is not None:
            await send_json(exchange.send, 200, render_message(answer))

    async def _first_answer(
        self, exchange: Exchange, session: Session, message: JsonObject
    ) -> JsonObject | Failure | None:
        """Return the child's word on `initialize`; None when the client left before it came."""
        asking = asyncio.ensure_future(ask(session.link, message, self._start_timeout_s))
        gone = asyncio.ensure_future(wait_for_disconnect(exchange.receive))
        try:
            await asyncio.wait({asking, gone}, return_when=asyncio.FIRST_COMPLETED)
            return (asking.result() or SILENT) if asking.done() else None
        finally:
            asking.cancel()
            gone.cancel()

    async def _call(self, exchange: Exchange, session: Session, message: JsonObject) -> None:
        stream = session.call(message)
        if isinstance(stream, Failure):
            await exchange.refuse(ENDED if stream is EXITED else stream)
            return
        answer = Answer(exchange.send, exchange.receive, stream, self._manner(session, self._poll_s))
        await answer.write()
        if not answer.is_event_stream:
            session.release(stream)

    async def _get(self, exchange: Exchange) -> None:
        session = self._session(exchange)
        failure = session if isinstance(session, Failure) else None if exchange.accepts_events() else _NO_EVENTS
        if failure is not None or isinstance(session, Failure):
            await exchange.refuse(failure or _NO_EVENTS)
            return
        last = exchange.values(b"last-event-id")
        position = parse_event_id(last[0]) if last else (session.standing.name, session.standing.read_through)
        stream = session.stream(position[0]) if position else None
        if stream is None or position is None:
            await exchange.refuse(_NO_EVENT)
            return
        poll_s = None if stream is session.standing else self._poll_s
        await Answer(exchange.send, exchange.receive, stream, self._manner(session, poll_s)).resume(position[1])

    async def _delete(self, exchange: Exchange) -> None:
        session = self._session(exchange)
        if isinstance(session, Failure):
            await exchange.refuse(session)
            return
        self._sessions.end(session)
        await exchange.accept(status=200)

    def _session(self, exchange: Exchange) -> Session | Failure:
        ids = exchange.values(SESSION_HEADER)
        if len(ids) != 1:
            return _NO_SESSION
        return self._sessions.find(ids[0], exchange.values(PRINCIPAL_HEADER)) or ENDED

    def _manner(self, session: Session, poll_s: float | None) -> Answering:
        is_primed = session.version >= _PRIMED_SINCE
        return Answering(
            commit_after_s=self._events_after_s,
            ping_s=_PING_S,
            has_ids=True,
            is_primed=is_primed,
            poll_s=poll_s if is_primed else None,
            headers=_session_header(session),
        )


def _session_header(session: Session) -> tuple[tuple[bytes, bytes], ...]:
    return ((SESSION_HEADER, session.id.encode()),)
