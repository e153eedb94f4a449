"""One admitted request: to the server and back, its row committed before its answer is released."""

import asyncio
from collections.abc import Sequence
from time import perf_counter_ns
from typing import Protocol

from proxy import errors
from proxy.answers import encode, execution_header, refusal_body, refusal_headers, refusal_message
from proxy.audit.record import Outcome, Payload, Status
from proxy.call import Call
from proxy.errors import Refusal
from proxy.exchange import Exchange, Header
from proxy.listing import visible_only
from proxy.rebuild import SessionLostError, is_lost
from proxy.relay import (
    BrokenAnswerError,
    Reply,
    content_type,
    events,
    is_answer_to,
    message_of,
    reply_of,
)
from proxy.routes import Route
from proxy.sessions import SESSION_HEADER, Session, SessionStoreUnavailableError
from proxy.upstream import UpstreamError, UpstreamLimits, UpstreamTimeout, UpstreamUnreachable
from proxy.upstream.response import UpstreamResponse
from proxy.upstream_refusals import refusal_of, refusal_of_status
from proxy.verdict import judge
from proxy.wire.era import Era
from proxy.wire.headers import to_client, to_upstream
from proxy.wire.sse import SseEvent, encode_event

EVENT_STREAM = b"text/event-stream"
_OWN_ERROR_BYTES = 65_536


class ClientLeftError(Exception):
    """The client closed the connection, which cancels this request."""


class StreamEndedError(Exception):
    """The server ended the stream without the answer; the client may resume it (legacy era)."""


class Upstream(Protocol):
    """The road to one server."""

    async def send(
        self, method: bytes, headers: Sequence[Header], body: bytes, *, limits: UpstreamLimits | None = None
    ) -> UpstreamResponse:
        """Send one request; return once the answer's headers are there; raise `UpstreamError`."""
        ...


class Office(Protocol):
    """What an execution needs of the executor: the road, the record, the sessions."""

    def upstream(self, call: Call) -> Upstream: ...
    def credentials(self, call: Call) -> Sequence[Header]: ...
    async def intend(self, exchange: Exchange | None, call: Call) -> bool: ...
    async def record(self, exchange: Exchange | None, call: Call, outcome: Outcome) -> bool: ...
    async def open_session(self, call: Call, route: Route, upstream_id: str, message: dict[str, object]) -> Session: ...
    async def close_session(self, call: Call) -> None: ...
    async def rebuild_session(self, call: Call, session: Session, route: Route) -> Session: ...


class Execution:
    """Runs once. `_opened` is set when the first byte of a streamed answer has left."""

    def __init__(self, office: Office, exchange: Exchange, call: Call, route: Route, *, intended: bool) -> None:
        self._office = office
        self._exchange = exchange
        self._call = call
        self._route = route
        self._opened = False
        self._intended = intended
        self._events = 0
        self._status = 200
        self._headers: list[Header] = []
        self._sent_ns = 0

    async def run(self) -> None:
        """Forward, record, release."""
        try:
            reply = await self._dispatch()
            await self._settle(reply)
        except ClientLeftError:
            await self._leave()
        except StreamEndedError as ended:
            await self._end_stream(str(ended))
        except UpstreamTimeout as error:
            refusal = Refusal(error.code, 504, errors.TIMED_OUT, str(error))
            await self._fail(Status.TIMEOUT, refusal, reached=error.sent)
        except UpstreamError as error:
            await self._fail(Status.FAILED, refusal_of(error, self._route.server.name), reached=error.sent)
        except BrokenAnswerError as error:
            await self._fail(Status.FAILED, Refusal("upstream.broken_answer", 502, errors.BAD_GATEWAY, str(error)))
        except SessionStoreUnavailableError as error:
            await self._fail(Status.FAILED, Refusal("session.store", 503, errors.UNAVAILABLE, str(error)))
        except SessionLostError as error:
            await self._fail(Status.FAILED, Refusal("session.lost", 404, errors.SESSION_UNKNOWN, str(error)))
        except asyncio.CancelledError:
            await asyncio.shield(self._interrupt())
            raise

    async def _dispatch(self) -> Reply:
        """Talk to the server within the total limit; a client that leaves ends what its leaving cancels."""
        gone = False
        try:
            async with asyncio.timeout(self._route.total_s(self._call)) as deadline:

                def leave() -> None:
                    nonlocal gone
                    gone = True
                    deadline.reschedule(asyncio.get_running_loop().time())

                unwatch = self._exchange.on_gone(leave) if self._ends_with_client() else _nothing
                try:
                    return await self._converse()
                finally:
                    unwatch()
        except TimeoutError as error:
            if gone:
                raise ClientLeftError from error
            raise UpstreamTimeout("total", sent=True) from error

    def _ends_with_client(self) -> bool:
        """A modern request is cancelled by its client's leaving, a legacy one is not; streams end in either era."""
        return self._call.era is Era.MODERN or self._call.is_long_lived

    async def _converse(self) -> Reply:
        """Send and read; once more where the server had lost the session and has it again."""
        self._sent_ns = perf_counter_ns()
        reply = await self._attempt()
        session = self._call.session
        if session is not None and is_lost(reply.status, reply.message):
            self._call.session = await self._office.rebuild_session(self._call, session, self._route)
            reply = await self._attempt()
        return reply

    async def _attempt(self) -> Reply:
        call = self._call
        body = call.envelope.encoded() if call.envelope is not None else b""
        limits = self._route.stream_limits if call.is_long_lived else None
        response = await self._office.upstream(call).send(
            call.http_method.encode(), self._outgoing(), body, limits=limits
        )
        async with response:
            self._status = response.status
            self._headers = to_client(response.headers)
            return await self._read(response)

    def _outgoing(self) -> list[Header]:
        call = self._call
        headers = [*to_upstream(call.headers, call.era or Era.LEGACY), *self._office.credentials(call)]
        if call.session is not None and call.session.upstream_id is not None:
            headers.append((SESSION_HEADER, call.session.upstream_id.encode()))
        return headers

    async def _read(self, response: UpstreamResponse) -> Reply:
        kind = content_type(response)
        if kind == EVENT_STREAM and response.status < 300:
            return await self._relay(response)
        call = self._call
        is_json = kind == b"application/json"
        body = await response.read(self._route.server.limits.response_bytes if is_json else _OWN_ERROR_BYTES)
        expects_message = call.rpc_id is not None or call.http_method == "GET"
        reply = reply_of(response.status, body, call.rpc_id, is_json=is_json, expects_message=expects_message)
        if call.method == "initialize" and response.status < 300:
            await self._begin_session(response, reply)
        return reply

    async def _begin_session(self, response: UpstreamResponse, reply: Reply) -> None:
        """Give the client an id of ours for the session that the server has opened."""
        upstream_id = next((value for name, value in response.headers if name == SESSION_HEADER), None)
        if upstream_id is not None and reply.message is not None and "result" in reply.message:
            opened = upstream_id.decode("ascii", "replace")
            session = await self._office.open_session(self._call, self._route, opened, reply.message)
            self._headers.append((SESSION_HEADER, session.id.encode()))

    async def _relay(self, response: UpstreamResponse) -> Reply:
        """Pass events on as they come; keep the one that ends the request."""
        call = self._call
        if call.http_method == "GET":
            await self._open()
        resumable = False
        async for event in events(response):
            self._events += 1
            resumable = resumable or bool(event.id)
            message = message_of(event)
            if message is not None and call.rpc_id is not None and is_answer_to(message, call.rpc_id):
                reply = Reply(self._status, message=message, event=event, body=event.raw)
                if call.method == "initialize":
                    await self._begin_session(response, reply)
                return reply
            await self._pass_on(event, message)
        if call.http_method == "GET":
            raise StreamEndedError("the server closed the stream")
        if resumable and call.era is Era.LEGACY:
            raise StreamEndedError("the server closed the stream before its answer; the client may resume it")
        raise BrokenAnswerError("the server closed the stream before its answer")

    async def _pass_on(self, event: SseEvent, message: dict[str, object] | None) -> None:
        if message is not None and "method" not in message:
            await self._record_late_answer(message, event)
        if not self._opened:
            await self._open()
        await self._exchange.write(event.raw)

    async def _record_late_answer(self, message: dict[str, object], event: SseEvent) -> None:
        """An answer to an earlier request arrives on this stream: it has a row of its own before it is released."""
        verdict = judge(message, 200)
        late = self._call.late()
        outcome = late.outcome(
            verdict.status,
            "stream.late_answer",
            f"answer to request {message.get('id')!r} of this session, delivered on a resumed stream",
            200,
            output=self._snapshot(message, event.raw),
            error=verdict.error,
        )
        if not await self._office.record(None, late, outcome):
            raise BrokenAnswerError("the answer could not be recorded and is withheld")

    async def _open(self) -> None:
        """Send the headers of a stream; an intent is durable before."""
        if not self._intended:
            self._intended = True
            if not await self._office.intend(None, self._call):
                raise UpstreamUnreachable("the audit store is not reachable; the stream is not opened")
        self._opened = True
        await self._exchange.open(self._status, [*self._headers, execution_header(self._call.execution_id)])

    async def _settle(self, reply: Reply) -> None:
        """Commit the row, then release the answer."""
        call = self._call
        output = self._snapshot(reply.message, reply.body) if reply.message is not None else None
        self._shape(reply)
        verdict = judge(reply.message, reply.status)
        decision = call.decision
        outcome = call.outcome(
            verdict.status,
            decision.code if decision else "admitted",
            decision.reason if decision else "",
            reply.status,
            output=output,
            error=verdict.error,
            upstream_us=self._upstream_us(),
            events=self._events or None,
        )
        if call.http_method == "DELETE" and (reply.status < 300 or reply.status == 404):
            await self._office.close_session(call)
        if await self._office.record(None if self._opened else self._exchange, call, outcome):
            await self._release(reply)
        elif self._opened:
            await self._exchange.close()

    def _shape(self, reply: Reply) -> None:
        """Take out of a list what the caller may not see; make a bare HTTP error a JSON-RPC one."""
        if reply.message is None:
            if reply.status >= 400:
                refusal = refusal_of_status(reply.status)
                reply.status = refusal.status
                reply.body = refusal_body(refusal, self._call.rpc_id, self._call.execution_id)
                self._headers = refusal_headers(refusal, self._call.execution_id)[:-1]
            return
        changed = visible_only(self._call, self._route.policy, reply.message)
        if changed is not None:
            reply.message = changed
            reply.body = encode(changed)
            if reply.event is not None:
                reply.body = encode_event(reply.body.decode(), id=reply.event.id, event=reply.event.event)

    async def _release(self, reply: Reply) -> None:
        if reply.event is None:
            headers = [*self._headers, execution_header(self._call.execution_id)]
            await self._exchange.answer(reply.status, headers, reply.body)
            return
        if not self._opened:
            self._opened = True
            await self._exchange.open(reply.status, [*self._headers, execution_header(self._call.execution_id)])
        await self._exchange.write(reply.body)
        await self._exchange.close()

    async def _fail(self, status: Status, refusal: Refusal, *, reached: bool = True) -> None:
        """The server did not answer as it must: record it and say so. `reached`: it may have seen the request."""
        call = self._call
        upstream_us = self._upstream_us() if reached else None
        outcome = call.outcome(
            status, refusal.code, refusal.reason, refusal.status, error=refusal.reason, upstream_us=upstream_us
        )
        if not self._opened:
            if await self._office.record(self._exchange, call, outcome):
                body = refusal_body(refusal, call.rpc_id, call.execution_id)
                await self._exchange.answer(refusal.status, refusal_headers(refusal, call.execution_id), body)
            return
        if await self._office.record(None, call, outcome) and call.rpc_id is not None:
            message = encode(refusal_message(refusal, call.rpc_id, call.execution_id))
            await self._exchange.write(encode_event(message.decode()))
        await self._exchange.close()

    async def _interrupt(self) -> None:
        """The drain's budget is used up: the request ends here."""
        reason = "the proxy was stopped before the answer"
        outcome = self._call.outcome(
            Status.INTERRUPTED,
            "proxy.drained",
            reason,
            503,
            upstream_us=self._upstream_us(),
            events=self._events or None,
        )
        if await self._office.record(None, self._call, outcome) and self._opened:
            await self._exchange.close()

    async def _leave(self) -> None:
        """The client is gone: nobody to answer, the row is written all the same."""
        long_lived = self._call.is_long_lived
        status = Status.SUCCESS if long_lived else Status.CANCELLED
        reason = "the client closed the stream" if long_lived else "the client left before the answer"
        outcome = self._call.outcome(
            status, "client.left", reason, 499, upstream_us=self._upstream_us(), events=self._events or None
        )
        await self._office.record(None, self._call, outcome)

    async def _end_stream(self, reason: str) -> None:
        outcome = self._call.outcome(
            Status.SUCCESS,
            "stream.ended",
            reason,
            self._status,
            upstream_us=self._upstream_us(),
            events=self._events or None,
        )
        if not self._opened:
            await self._open()
        await self._office.record(None, self._call, outcome)
        await self._exchange.close()

    def _upstream_us(self) -> int | None:
        """How long the server has had the request; None if it was not handed over."""
        return (perf_counter_ns() - self._sent_ns) // 1000 if self._sent_ns else None

    def _snapshot(self, message: dict[str, object], whole: bytes) -> Payload:
        return self._route.snapshot_output(self._call, message, whole)


def _nothing() -> None:
    """Nobody watches."""
