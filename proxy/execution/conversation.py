"""What is said to the server for one request, and what it says back, over lost sessions and restarts of the server."""

from collections.abc import Coroutine, Sequence
from time import perf_counter_ns
from typing import Protocol

from proxy.answers import encode
from proxy.call import Call
from proxy.exchange import Exchange, Header
from proxy.execution.client_stream import ClientStream
from proxy.execution.client_stream import Office as StreamOffice
from proxy.execution.ends import (
    STREAM_ENDED,
    STREAM_MOVED,
    BrokenAnswerError,
    EndedError,
    SessionLostError,
    answer_lost,
)
from proxy.execution.patience import Patience
from proxy.execution.relay import (
    EVENT_STREAM,
    JSON,
    Reply,
    content_type,
    event_of,
    events,
    is_answer_to,
    message_of,
    reply_of,
    session_id_in,
)
from proxy.routes import Route
from proxy.sessions.events import LAST_EVENT_HEADER
from proxy.sessions.live import Live
from proxy.sessions.rebuild import is_lost
from proxy.sessions.state import keep_state
from proxy.sessions.store import SESSION_HEADER, Session, Sessions
from proxy.tasks.answer import brings_tasks, own_answer
from proxy.upstream import UpstreamError, UpstreamLimits
from proxy.upstream.response import UpstreamResponse
from proxy.wire.era import Era
from proxy.wire.fields import fact_of
from proxy.wire.headers import to_client, to_upstream
from proxy.wire.sse import SseEvent

_OWN_ERROR_BYTES = 65_536
_HELD_EVENTS = 64


class Upstream(Protocol):
    """The road to one server."""

    async def send(
        self, method: bytes, headers: Sequence[Header], body: bytes, *, limits: UpstreamLimits | None = None
    ) -> UpstreamResponse:
        """Send one request; return once the answer's headers are there; raise `UpstreamError`."""
        ...


class Office(StreamOffice, Protocol):
    """What a conversation needs of the executor: the road and the sessions, beside what its stream needs."""

    @property
    def live(self) -> Live: ...
    @property
    def sessions(self) -> Sessions: ...
    def upstream(self, call: Call) -> Upstream: ...
    def credentials(self, call: Call) -> Sequence[Header]: ...
    async def open_session(self, call: Call, route: Route, upstream_id: str, message: dict[str, object]) -> Session: ...
    async def rebuild_session(self, call: Call, session: Session, route: Route) -> Session: ...


class Conversation:
    """Runs once. `note` is what the row should add: that the session was rebuilt."""

    __slots__ = (
        *("_exchange", "_is_intended", "_office", "_response", "_route", "_sent_ns", "_stream"),
        *("call", "note"),
    )

    def __init__(self, office: Office, exchange: Exchange, call: Call, route: Route, *, is_intended: bool) -> None:
        self.call = call
        self.note = ""
        self._office = office
        self._exchange = exchange
        self._is_intended = is_intended
        self._route = route
        self._stream: ClientStream | None = None
        self._response: UpstreamResponse | None = None
        self._sent_ns = 0

    @property
    def stream(self) -> ClientStream:
        """The client's side of a streamed answer; most answers are none."""
        if self._stream is None:
            intended = self._is_intended
            self._stream = ClientStream(self._office, self._exchange, self.call, self._route, is_intended=intended)
        return self._stream

    @property
    def is_streaming(self) -> bool:
        """Whether the first byte of a streamed answer has left."""
        return self._stream is not None and self._stream.is_open

    @property
    def events(self) -> int | None:
        """How many events the client's stream has brought so far; None where there were none."""
        return (self._stream.events or None) if self._stream is not None else None

    def run(self) -> Coroutine[None, None, Reply]:
        """Return the answer; raise what `ends.end_of` knows. The connection is kept until `close`."""
        return self._stand() if self.call.http_method == "GET" else self._converse()

    def close(self) -> None:
        """Let the server's connection go: back to the pool where its answer is whole, else closed."""
        if self._response is not None:
            self._response.close()
            self._response = None

    def upstream_us(self) -> int | None:
        """How long the server has had the request so far; None before it was handed over."""
        return (perf_counter_ns() - self._sent_ns) // 1000 if self._sent_ns else None

    async def _stand(self) -> Reply:
        """Converse over a GET stream: it waits for a server that is away, and takes up where it was."""
        patience = Patience()
        await self._take_over()
        while True:
            try:
                reply = await self._converse()
                if reply.status != 409 or not await patience.waits_for_old_connection(self.call.resumed):
                    return reply
            except UpstreamError as error:
                self.close()
                await patience.wait(error, is_open=self.is_streaming)

    async def _take_over(self) -> None:
        """The client resumes a stream: whoever still holds its old connection to the server lets go of it."""
        resumed, session = self.call.resumed, self.call.session
        if resumed is None or resumed.origin is None or session is None:
            return
        execution, by = resumed.origin.execution, self.call.execution_id
        if not await self._office.live.hand_over(session.id, execution, by):
            await self._office.sessions.let_go(session, execution, by)

    async def _converse(self) -> Reply:
        """Send and read; once more where the server had lost the session and has it again."""
        self._sent_ns = self._sent_ns or perf_counter_ns()
        reply = await self._attempt()
        session = self.call.session
        if session is not None and is_lost(reply.status, reply.message):
            reply = await self._converse_anew(session)
        if session is not None and reply.is_result and not self.call.is_tool_call:
            await keep_state(self.call, self._office.sessions, self._office.live)
        if reply.message is not None and brings_tasks(self.call, reply.message):
            await self._own_tasks(reply, reply.message)
        return reply

    async def _own_tasks(self, reply: Reply, message: dict[str, object]) -> None:
        """Put our task ids into an answer; a new task is bound to its principal before."""
        own = await own_answer(self.call, message, self._office.sessions.tasks)
        if own is message:
            return
        reply.message, reply.whole = own, reply.whole or reply.body
        reply.body = encode(own) if reply.event is None else self.stream.reframed(reply.event, own)

    async def _converse_anew(self, session: Session) -> Reply:
        if self.call.http_method == "DELETE":
            self.note = "; the server had lost the session already"
            return Reply(200)
        session = self.call.session = await self._office.rebuild_session(self.call, session, self._route)
        self.note = f"; the server had lost the session, it was rebuilt (generation {session.generation})"
        reply = await self._attempt()
        if is_lost(reply.status, reply.message):
            await self._office.sessions.end(session, "lost")
            raise SessionLostError("the server does not keep its sessions: initialize again")
        return reply

    async def _attempt(self) -> Reply:
        call, envelope = self.call, self.call.envelope
        body = envelope.encoded() if envelope is not None else b""
        limits = self._route.stream_limits if call.is_long_lived else None
        self.close()
        response = self._response = await self._office.upstream(call).send(
            call.http_method.encode(), self._outgoing(), body, limits=limits
        )
        kind = content_type(response)
        if kind == EVENT_STREAM and response.status < 300:
            return await self._relay(response)
        return await self._read(response, is_json=kind == JSON)

    def _outgoing(self) -> tuple[Header, ...]:
        """Return the headers for the server: what may pass, our credentials, its own session and event ids."""
        call = self.call
        upstream_id = call.session.upstream_id if call.session is not None else None
        headers = _passing(call.headers, call.era or Era.LEGACY, tuple(self._office.credentials(call)), upstream_id)
        if call.http_method == "GET" and (last_event := self._last_event()) is not None:
            return (*headers, (LAST_EVENT_HEADER, last_event.encode()))
        return headers

    def _last_event(self) -> str | None:
        """Return the server's id of the event to resume after; an id of a lost session may name another's event."""
        position, session = self.stream.position, self.call.session
        if position is None or session is None:
            return None
        if position.generation == session.generation:
            return position.event_id
        if position.origin is not None:
            raise EndedError(answer_lost(position.origin.execution))
        return None

    async def _read(self, response: UpstreamResponse, *, is_json: bool) -> Reply:
        call = self.call
        body = await response.read(self._route.server.limits.response_bytes if is_json else _OWN_ERROR_BYTES)
        if call.http_method == "GET" and response.status < 300:
            raise BrokenAnswerError("the server answered a GET without an event stream")
        reply = reply_of(response.status, body, call.rpc_id, is_json=is_json)
        reply.headers = to_client(response.headers)
        if call.method == "initialize":
            reply.headers = (*reply.headers, *await self._begin_session(response, reply))
        return reply

    async def _begin_session(self, response: UpstreamResponse, reply: Reply) -> list[Header]:
        """Give the client an id of ours for the session that the server has opened; return the header for it."""
        if reply.message is None or not reply.is_result:
            return []
        upstream_id = session_id_in(response.headers)
        if upstream_id is None:
            return []
        session = await self._office.open_session(self.call, self._route, upstream_id, reply.message)
        return [(SESSION_HEADER, session.id.encode())]

    async def _relay(self, response: UpstreamResponse) -> Reply:
        """Pass events on as they come; keep the one that ends the request."""
        call, stream = self.call, self.stream
        stream.prepare(response.status, to_client(response.headers))
        if call.http_method == "GET":
            await stream.open()
        held: list[SseEvent] = []
        limit_bytes = self._route.server.limits.response_bytes
        async for came in events(response, limit_bytes):
            event, message = came, message_of(came)
            if message is not None:
                event, message = event_of(event, message)
            if message is not None and call.rpc_id is not None and is_answer_to(message, call.rpc_id):
                reply = await self._last_of(response, held, event, message)
                reply.whole = came.data.encode()
                return reply
            if call.method == "initialize":
                held.append(event)  # the session's id is a header, and the session begins with the answer
                if len(held) > _HELD_EVENTS or sum(len(each.raw) for each in held) > limit_bytes:
                    raise BrokenAnswerError("the server says too much before its answer to initialize")
            else:
                await stream.pass_on(event, message)
        if call.rpc_id is None:
            raise EndedError(STREAM_ENDED)
        if stream.is_resumable:
            raise EndedError(STREAM_MOVED)
        raise BrokenAnswerError("the server closed the stream before its answer")

    async def _last_of(
        self, response: UpstreamResponse, held: list[SseEvent], event: SseEvent, message: dict[str, object]
    ) -> Reply:
        """Return the answer that a stream brought; of initialize with all that came before it."""
        reply = Reply(response.status, message=message, event=event)
        reply.headers = to_client(response.headers)
        if self.call.method == "initialize":
            reply.headers = (*reply.headers, *await self._begin_session(response, reply))
        for each in held:
            self.stream.count(each)
            reply.before += self.stream.signed(each)
        self.stream.count(event)
        reply.body = self.stream.signed(event)
        return reply


def _passing(
    headers: Sequence[Header], era: Era, credentials: tuple[Header, ...], upstream_id: str | None
) -> tuple[Header, ...]:
    """Return what may pass, with our credentials and the server's session id: found out once for each head."""
    session = ((SESSION_HEADER, upstream_id.encode()),) if upstream_id is not None else ()
    key = (era, credentials, upstream_id)
    return fact_of(headers, key, lambda lines: (*to_upstream(lines, era), *credentials, *session))
