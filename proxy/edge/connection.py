"""One client's connection: what it sends is parsed, and its requests are handled one after the other."""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, cast

import httptools

from proxy.edge.exchange import HttpExchange, refuse_plainly
from proxy.edge.head import MAX_HEAD_BYTES, BadRequestError, check_framing, read_target
from proxy.edge.repeated import Seen, SeenHeads
from proxy.edge.upgrade import parser_of_body
from proxy.exchange import BodyTooLargeError, BrokenRequestError, ClientGoneError, Header
from proxy.wire.fields import Fields

_CHUNK_BYTES = 256 * 1024
"""What the event loop reads at once, at the most."""
MAX_AHEAD = 64
"""So many requests may be sent ahead of their answers: an exchange costs far more memory than its bytes."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long a client may be silent between requests, take for a head, pause in a body, or leave an answer unread.

    A body also needs `body_bytes_per_s` on the whole: a byte now and then is no progress. `linger_s`: how long a client
    that is still sending has for reading the last answer; a socket closed over unread bytes would take it away.
    """

    idle_s: float = 75.0
    head_s: float = 20.0
    body_s: float = 30.0
    write_s: float = 120.0
    linger_s: float = 2.0
    body_bytes_per_s: float = 500.0


class Owner(Protocol):
    """The listener as its connections see it. `now` is a clock that moves at every tick."""

    now: float
    times: Times
    seen: SeenHeads
    exchange_type: type[HttpExchange]
    handle: Callable[[HttpExchange], Awaitable[None]]
    refuse: Callable[[HttpExchange, int, str], Awaitable[None]]

    def date(self) -> bytes: ...
    def joined(self, connection: "Connection", task: "asyncio.Task[None]") -> None: ...
    def left(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    """`deadline`, on the owner's clock, is when the client's silence, or its slowness, ends the connection.

    Deaf: nothing more is parsed. Ending: no further request is handled. Over: the last answer is given. The methods
    named `on_…` are the parser's callbacks.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: Owner) -> None:
        self.date = owner.date
        self.deadline = owner.now + owner.times.idle_s
        self.remote = "unknown"
        self.is_full = False
        self._loop = loop
        self._owner = owner
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: list[Header] | None = None
        self._arriving: HttpExchange | None = None
        self._current: HttpExchange | None = None
        self._waiting: deque[HttpExchange] = deque()
        self._turn: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._fed_bytes = self._chunk_bytes = 0
        self._body_until = 0.0
        self._fault: BadRequestError | None = None
        self._seen: Seen | None = None
        self._is_resting = self._is_deaf = self._is_ending = self._is_over = False

    # --- the event loop's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.remote = str(peer[0]) if peer else "unknown"
        self._owner.joined(self, self._loop.create_task(self._serve()))

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        is_between = self._arriving is None and self._headers is None
        if is_between and self._is_repeated(data):
            return
        self._chunk_bytes = len(data)
        self._fed_bytes += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._fail(cause if isinstance(cause, BadRequestError) else BadRequestError(400, "this is not HTTP"))
        else:
            if self._fed_bytes > MAX_HEAD_BYTES + _CHUNK_BYTES:
                self._fail(BadRequestError(431, "the request makes no progress"))
            elif self._arriving is not None:
                self._body_until += len(data) / self._owner.times.body_bytes_per_s
                self.deadline = self._patience()
            elif is_between and self._waiting and self._headers is None:
                self._seen = self._owner.seen.note(data, self._waiting[-1])

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            arriving = self._arriving
            if arriving is None:
                self._is_deaf = True
                return
            self._parser = parser_of_body(arriving.headers, self.on_body, self._end_upgrade)
            self._parser.feed_data(data[stopped.args[0] :])

    def _end_upgrade(self) -> None:
        """The request is whole; what follows might be the protocol that was wished for."""
        self._end_message()
        self._is_deaf = True

    def _patience(self) -> float:
        """Return the deadline for what the client owes us now."""
        now, times = self._owner.now, self._owner.times
        if self._arriving is not None:
            return math.inf if self._is_resting else min(now + times.body_s, self._body_until)
        if self._current is not None or self._waiting:
            return math.inf
        return now + (times.idle_s if self._headers is None else times.head_s)

    def pause_writing(self) -> None:
        self.is_full = True
        self._writable = self._loop.create_future()
        self.deadline = self._owner.now + self._owner.times.write_s

    def resume_writing(self) -> None:
        self.is_full = False
        if not self._is_over:
            self.deadline = self._patience()
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def eof_received(self) -> None:
        """Let the transport close; `connection_lost` follows."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature
        self._is_deaf = self._is_ending = True
        for exchange in (self._current, self._arriving):
            if exchange is not None:
                exchange.leave()
        self.resume_writing()
        self._wake()
        self._owner.left(self)

    # --- the parser's side

    def on_message_begin(self) -> None:
        self._url, self._headers = b"", []
        self._fed_bytes = self._chunk_bytes
        if self._current is None:
            self.deadline = self._owner.now + self._owner.times.head_s

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._headers is not None:  # otherwise it is a trailer, which nobody asked for
            self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        headers, self._headers = self._headers or [], None
        version, method = self._parser.get_http_version(), self._parser.get_method().decode("ascii")
        check_framing(version, headers, self._fed_bytes)
        target = read_target(self._url, headers)
        exchange = self._owner.exchange_type(self, method, target, Fields.of(headers), is_legacy=version == "1.0")
        if not self._parser.should_keep_alive() or self._parser.should_upgrade():
            exchange.keep_alive = False
        if len(self._waiting) >= MAX_AHEAD:
            raise BadRequestError(429, "too many requests were sent ahead of their answers")
        self._arriving = exchange
        self._body_until = self._owner.now + self._owner.times.body_s
        self._waiting.append(exchange)
        if self._current is not None or len(self._waiting) > 1:
            self.rest()
        self._wake()

    def on_body(self, part: bytes) -> None:
        self._fed_bytes = 0
        if self._arriving is not None:
            self._arriving.feed(part)

    def on_message_complete(self) -> None:
        if not self._parser.should_upgrade():  # otherwise llhttp has not looked for the body yet
            self._end_message()

    def _end_message(self) -> None:
        self._fed_bytes = 0
        if self._arriving is not None:
            self._arriving.complete()
            self._arriving = None
            self.deadline = math.inf

    def _is_repeated(self, data: bytes) -> bool:
        """Take a request whose head is, byte for byte, one that was judged, and which is whole: it needs no parser."""
        seen = self._seen
        if seen is None or len(data) != seen.size or not data.startswith(seen.head):
            seen = self._owner.seen.find(data)
            if seen is None:
                return False
            self._seen = seen
        waiting = self._waiting
        if len(waiting) >= MAX_AHEAD:
            return False
        exchange = self._owner.exchange_type(self, seen.method, seen.target, seen.headers, is_legacy=False)
        exchange.take_whole(data[len(seen.head) :])
        waiting.append(exchange)
        self.deadline = math.inf
        if self._current is not None or len(waiting) > 1:
            self.rest()
        else:
            self._wake()
        return True

    def _fail(self, fault: BadRequestError) -> None:
        """What was understood so far is still answered, then comes the fault."""
        self._is_deaf, self._fault = True, fault
        if self._arriving is not None:
            self._arriving.spoil(str(fault))
        self._wake()

    # --- the exchanges' side

    def send(self, data: bytes, *more: bytes) -> None:
        if self._transport.is_closing():
            return
        if more:
            self._transport.writelines((data, *more))
        else:
            self._transport.write(data)

    def rest(self) -> None:
        if not self._is_resting and not self._transport.is_closing():
            self._is_resting = True
            self._transport.pause_reading()

    def go_on(self) -> None:
        if self._is_resting and not self._transport.is_closing():
            self._is_resting = False
            self._body_until = self._owner.now + self._owner.times.body_s
            self.deadline = self._patience()
            self._transport.resume_reading()

    async def drained(self) -> None:
        if self._writable is not None:
            await self._writable

    # --- the listener's side

    def finish(self) -> None:
        """Handle no further request; an idle connection closes now."""
        self._is_ending = True
        if self._current is not None:
            self._current.keep_alive = False
        self._wake()

    def abort(self) -> None:
        """The client was too slow."""
        self._transport.abort()

    # --- one request after the other

    async def _serve(self) -> None:
        waiting = self._waiting
        try:
            while not self._is_ending and (waiting or not self._is_deaf):
                if not waiting:
                    self.deadline = self._patience()
                    self._turn = turn = self._loop.create_future()
                    await turn
                    continue
                self._current = exchange = waiting.popleft()
                if self._is_resting and not waiting:
                    self.go_on()
                await self._owner.handle(exchange)
                is_over = exchange.is_answered and exchange.is_complete and exchange.keep_alive
                if not is_over and not await self._goes_on(exchange):
                    return
                self._current = None
            if self._fault is not None:
                await self._refuse(self._fault)
        finally:
            self._end()

    def _end(self) -> None:
        """Close once everything is sent, and what the client still sends is dropped."""
        self._is_deaf = self._is_over = True
        is_sending = self._fault is not None or self._arriving is not None
        times = self._owner.times
        if is_sending and not self._transport.is_closing():
            self.go_on()
            self._transport.write_eof()
            self.deadline = self._owner.now + times.linger_s
        else:
            self._transport.close()
            self.deadline = self._owner.now + times.write_s
        self._let_go()

    def _let_go(self) -> None:
        """Refer to nothing that refers to this connection: its memory should not wait for the garbage collector."""
        self._current = self._arriving = self._turn = self._seen = None
        self._waiting.clear()
        del self._parser

    async def _goes_on(self, exchange: HttpExchange) -> bool:
        """Whether the connection goes on after an exchange that ended in an unusual way."""
        if not exchange.is_answered and not exchange.has_begun:
            exchange.keep_alive = False
            await refuse_plainly(exchange, 500, "there is no answer")
        if not exchange.keep_alive or not exchange.is_answered:
            return False
        try:
            await exchange.discard()
        except (ClientGoneError, BodyTooLargeError, BrokenRequestError):
            return False
        return True

    def _wake(self) -> None:
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)

    async def _refuse(self, fault: BadRequestError) -> None:
        """Answer what never became a request, as far as it was understood."""
        try:
            target = read_target(self._url.partition(b"?")[0], ())
        except BadRequestError:
            target = ("", b"")
        method = self._parser.get_method().decode("ascii") if self._url else ""
        self._current = exchange = self._owner.exchange_type(self, method, target, Fields.of(()), is_legacy=True)
        self.deadline = math.inf
        await self._owner.refuse(exchange, fault.status, str(fault))
