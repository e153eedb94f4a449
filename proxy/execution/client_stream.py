"""The streamed answer of one request on its way to the client: events are signed, answers in it have their rows."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeGuard, cast

from proxy.answers import NO_STORE, encode, execution_header, refusal_message
from proxy.audit.record import Outcome
from proxy.call import Call
from proxy.errors import Refusal
from proxy.exchange import Exchange, Header
from proxy.execution.ends import UNRECORDABLE, BrokenAnswerError, EndedError
from proxy.execution.judgement import judge_answer
from proxy.execution.relay import is_answer_to, is_question
from proxy.routes import Route
from proxy.sessions.events import Origin, Position, seal, with_id
from proxy.sessions.store import Session
from proxy.tasks.answer import own_answer, own_message
from proxy.tasks.store import Tasks
from proxy.tasks.wire import names_tasks
from proxy.wire.era import Era
from proxy.wire.jsonrpc import MAX_ID_BITS, MAX_ID_CHARS, Envelope, EnvelopeKind
from proxy.wire.sse import SseEvent, encode_event

_UNBUFFERED: Header = (b"x-accel-buffering", b"no")


class Memory(Protocol):
    """Remembers what servers have asked, and whose tasks are whose."""

    @property
    def tasks(self) -> Tasks: ...
    async def note_question(self, session: Session, rpc_id: int | str) -> bool: ...


class Office(Protocol):
    """What a stream needs of the executor: the record and the questions."""

    @property
    def sessions(self) -> Memory: ...
    async def intend(self, call: Call) -> bool: ...
    async def record(self, exchange: Exchange | None, call: Call, outcome: Outcome) -> bool: ...


class ClientStream:
    """`is_open` once the first byte has left; `position` is the last place in the server's stream that was passed on.

    `is_resumable`: the client has got an event id and may come back with it.
    """

    __slots__ = (
        *("_call", "_exchange", "_headers", "_is_intended", "_office", "_route"),
        *("events", "is_open", "is_resumable", "position", "status"),
    )

    def __init__(self, office: Office, exchange: Exchange, call: Call, route: Route, *, is_intended: bool) -> None:
        self._office = office
        self._exchange = exchange
        self._call = call
        self._route = route
        self._is_intended = is_intended
        self._headers: Sequence[Header] = ()
        self.status = 200
        self.events = 0
        self.is_open = False
        self.is_resumable = False
        self.position = call.resumed

    def prepare(self, status: int, headers: Sequence[Header]) -> None:
        """Take status and headers for the time when the stream opens."""
        if not self.is_open:
            self.status, self._headers = status, headers

    async def open(self) -> None:
        """Send status and headers; an intent is durable before."""
        if self.is_open:
            return
        if not self._is_intended:
            self._is_intended = True
            if not await self._office.intend(self._call):
                raise EndedError(UNRECORDABLE)
        self.is_open = True
        await self._exchange.open(self.status, self._all_headers())

    async def pass_on(self, event: SseEvent, message: dict[str, object] | None) -> None:
        """Send an event that does not end the request. A question is remembered, an answer has its row, before that."""
        shown = message
        if message is not None and "method" in message and names_tasks(message):
            shown = await self._with_own_tasks(message, event)
            if shown is None:
                return
        self.count(event)
        if message is not None and "method" not in message:
            raw = await self._record_late(message, event)
        else:
            raw = self.signed(event) if shown is message or shown is None else self.reframed(event, shown)
        if message is not None:
            self._route.guard.notice(message)
        if message is not None and is_question(message):
            await self._note(message.get("id"))
        await self.open()
        await self._exchange.write(raw)

    def count(self, event: SseEvent) -> None:
        """Take an event for the row; comments keep a connection alive and are none."""
        if event.data or event.id is not None or event.event:
            self.events += 1

    async def finish(self, body: bytes) -> None:
        """Send the last event, whose row is committed, and close."""
        if not self.is_open:
            self.is_open = True
            await self._exchange.open(self.status, self._all_headers())
        await self._exchange.write(body)
        await self._exchange.close()

    async def give_up(self, refusal: Refusal | None, retry_ms: int | None = None) -> None:
        """Close the open stream before its answer, with an error for the request where one is due."""
        if retry_ms is not None and self._call.http_method == "GET":
            await self._exchange.write(b"retry: %d\n\n" % retry_ms)
        origin = _origin_of(self._call)
        rpc_id = origin.rpc_id if origin is not None else self._call.rpc_id
        if refusal is not None and rpc_id is not None:
            message = encode(refusal_message(refusal, rpc_id, self._call.execution_id))
            await self._exchange.write(encode_event(message.decode()))
        await self._exchange.close()

    async def refuse(self, refusal: Refusal | None) -> None:
        """Answer a GET, whose row is committed, with a stream of an error or of nothing."""
        self.prepare(200, [(b"content-type", b"text/event-stream"), NO_STORE])
        self.is_open = True
        await self._exchange.open(self.status, self._all_headers())
        await self.give_up(refusal)

    def signed(self, event: SseEvent) -> bytes:
        """Return the bytes of an event with the id that only this session can come back with."""
        if not event.id or self._call.era is Era.MODERN:
            return event.raw
        return with_id(event, self.event_id(event.id))

    def event_id(self, upstream_id: str) -> str | None:
        """Return the client's id of an event; None where there is no session to resume in."""
        session = self._call.session
        if session is None:
            return None
        position = Position(upstream_id, session.generation, _origin_of(self._call))
        sealed = seal(position, session.event_key)
        if sealed is not None:
            self.position, self.is_resumable = position, True
        return sealed

    def reframed(self, event: SseEvent, message: dict[str, object]) -> bytes:
        """Return an event with another message in it."""
        event_id = event.id if self._call.era is Era.MODERN else self.event_id(event.id) if event.id else None
        return encode_event(encode(message).decode(), id=event_id, event=event.event, retry=event.retry)

    def _all_headers(self) -> list[Header]:
        headers = [header for header in self._headers if header[0] != _UNBUFFERED[0]]
        return [*headers, _UNBUFFERED, execution_header(self._call.execution_id)]

    async def _note(self, rpc_id: object) -> None:
        """The client's answer to this question will be let through, once."""
        if self._call.era is Era.MODERN:
            raise BrokenAnswerError("the server asks the client by a request, which the 2026-07-28 protocol forbids")
        if not _is_id(rpc_id):
            raise BrokenAnswerError("the server asks the client without a usable id")
        session = self._call.session
        if session is not None and not await self._office.sessions.note_question(session, rpc_id):
            raise BrokenAnswerError("the server asks more than the client has answered")

    async def _with_own_tasks(self, message: dict[str, object], event: SseEvent) -> dict[str, object] | None:
        """Return a message with our task ids in it, None if it is not for this client; a result has its row before."""
        told = await own_message(self._call, message, self._office.sessions.tasks)
        task = told.message.get("params") if told.message is not None else None
        if (
            told.tool is None
            or not isinstance(task, dict)
            or not ({"result", "error"} & {*cast("dict[str, Any]", task)})
        ):
            return told.message
        params = {"name": told.tool}
        late = self._call.late(Envelope(EnvelopeKind.NOTIFICATION, None, "notifications/tasks", params, {}))
        reason = f"result of a task, delivered on the subscription {self._call.execution_id}"
        answer: dict[str, object] = {"jsonrpc": "2.0", "id": None, "result": task}
        changed = await self._record_result(late, answer, event, "stream.task_result", reason)
        return {**message, "params": (changed or answer)["result"]}

    async def _record_late(self, message: dict[str, object], event: SseEvent) -> bytes:
        """An answer to an earlier request arrives on this stream: it has a row of its own before it is released."""
        late = self._call.late(self._request_of(message))
        own = await own_answer(late, message, self._office.sessions.tasks)
        origin = _origin_of(self._call) if late.envelope is not None else None
        earlier = f"request {origin.execution}" if origin is not None else "no request in particular"
        reason = f"answer to {earlier}, delivered on a resumed stream"
        changed = await self._record_result(late, own, event, "stream.late_answer", reason)
        shown = changed if changed is not None else own
        return self.signed(event) if shown is message else self.reframed(event, shown)

    async def _record_result(
        self, late: Call, message: dict[str, object], event: SseEvent, code: str, reason: str
    ) -> dict[str, object] | None:
        """Judge what arrives apart from its request and commit its row; return what takes its place, if anything."""
        judged = await judge_answer(self._route, late, message, event.data.encode(), 200)
        verdict = judged.verdict
        outcome = late.outcome(verdict.status, code, reason, 200, output=judged.output, error=verdict.error)
        if not await self._office.record(None, late, outcome):
            raise EndedError(UNRECORDABLE)
        return judged.message

    def _request_of(self, message: dict[str, object]) -> Envelope | None:
        """Return the request that a late message answers; None for an error that names none. Others do not pass."""
        if self._call.http_method == "GET":
            origin = _origin_of(self._call)
            if origin is not None and is_answer_to(message, origin.rpc_id):
                return origin.envelope()
            if is_answer_to(message, None):
                return None
        raise BrokenAnswerError("the server sent an answer that this stream was not opened for")


def _origin_of(call: Call) -> Origin | None:
    """The request whose answer this stream carries: its own, or the one that is resumed."""
    if call.http_method == "GET":
        return call.resumed.origin if call.resumed is not None else None
    if call.rpc_id is None or call.method is None:
        return None
    return Origin(call.execution_id, call.rpc_id, call.method, call.target)


def _is_id(value: object) -> TypeGuard[int | str]:
    if isinstance(value, str):
        return len(value) <= MAX_ID_CHARS
    return isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= MAX_ID_BITS
