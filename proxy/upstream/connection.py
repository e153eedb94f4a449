"""HTTP/1.1 on one socket, one exchange at a time."""

import asyncio
import math
import select
from typing import Protocol, cast

import httptools

from proxy.upstream.errors import (
    UpstreamDisconnected,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamTooLarge,
)
from proxy.upstream.head import Framing, read_framing
from proxy.upstream.repeated import MOST_BYTES, KnownHead, KnownHeads
from proxy.upstream.response import UpstreamResponse
from proxy.upstream.target import UpstreamLimits
from proxy.upstream.watchdog import Watchdog, WatchPhase


class Owner(Protocol):
    """The pool as its connections see it."""

    known: KnownHeads

    def released(self, connection: "Connection") -> None: ...
    def lost(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    """Idle, waiting for response headers, or streaming a body; then idle again, or closed for good.

    Whatever is out of order closes the connection: bytes that nobody asked for, a second response, a limit that ran
    out. An answer whose head is known needs no parser (`_take_known`, `_take_missing`); the methods named `on_…` are
    the callbacks of the parser, which judges all others.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: Owner) -> None:
        self._loop = loop
        self._owner = owner
        self._watchdog = Watchdog(loop, self._expired)
        self._parser = httptools.HttpResponseParser(self)
        self._limits = UpstreamLimits()
        self._is_head = False
        self._head: asyncio.Future[UpstreamResponse] | None = None
        self._response: UpstreamResponse | None = None
        self._missing = 0
        self._is_busy = self._is_untouched = self._is_closed = False
        self._restart()
        self.is_made = False

    # --- the pool's side

    def is_usable(self) -> bool:
        """Tell whether a request may be written: open, nothing to read, not even an end that the loop has not seen."""
        return not (self._is_closed or self._is_busy or self._transport.is_closing() or self._readable.poll(0))

    def send(
        self, request: bytes, limits: UpstreamLimits, *, is_head: bool = False
    ) -> "asyncio.Future[UpstreamResponse]":
        """Write the request; the future is done once the headers of the response are here."""
        self._limits = limits
        self._is_head = is_head
        self._is_busy = self._is_untouched = True
        self._head = head = self._loop.create_future()
        self._watchdog.begin(limits.first_byte_s, limits.total_s)
        self._transport.write(request)
        return head

    def cancel(self, head: "asyncio.Future[UpstreamResponse]") -> None:
        """Whoever waited for this future was cancelled: close the connection."""
        if self._head is head:  # otherwise the answer is whole and the connection may serve someone else
            self.abort(UpstreamDisconnected("the request was cancelled"))
        if head.done() and not head.cancelled():
            head.exception()

    def abort(self, error: UpstreamError) -> None:
        """Close at once; whoever waits for this exchange gets the error."""
        head, response = self._head, self._response
        self._head = self._response = None
        self._can_reuse = False
        self._is_closed = True
        self._watchdog.stop()
        if response is not None:
            response.finish(error)
        elif head is not None and not head.done():
            head.set_exception(error)
        self._transport.abort()

    def resume_reading(self) -> None:
        if not self._is_closed:
            self._transport.resume_reading()
            self._watchdog.watch("idle", self._limits.idle_s)

    def _restart(self) -> None:
        """Forget the last answer that was parsed."""
        self._start = b""
        self._framing: Framing | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._received = self._header_bytes = self._body_bytes = self._overhead_bytes = 0
        self._is_complete = self._can_reuse = False

    def _expired(self, phase: WatchPhase) -> None:
        if phase == "keepalive":
            self.abort(UpstreamDisconnected("idle connection retired"))
        else:
            self.abort(UpstreamTimeout(phase, sent=True))

    # --- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.is_made = True
        self._transport = cast("asyncio.Transport", transport)
        self._readable = select.poll()
        self._readable.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        if self._is_closed:
            return
        if not self._is_busy:
            self.abort(UpstreamProtocolError("upstream sent bytes that nobody asked for"))
            return
        if self._is_untouched:
            self._is_untouched = False
            known = self._owner.known.find(data)
            if known is not None and self._take_known(known, data):
                return
            self._restart()
            self._start = data[:MOST_BYTES]
        if self._missing:
            self._take_missing(data)
        else:
            self._parse(data)

    def _take_known(self, known: KnownHead, data: bytes) -> bool:
        """Take the start of an answer whose head the parser has judged before, unless a limit forbids it."""
        limits, missing = self._limits, known.size + known.length - len(data)
        if missing < 0 or self._is_head or known.size > limits.max_header_bytes or known.length > limits.max_body_bytes:
            return False
        body = data[known.size :]
        if missing:
            self._framing, self._missing = known.framing, missing
            self._answer(UpstreamResponse(known.status, known.headers, self, self._loop))
            self._feed(body)
        else:
            self._answer(UpstreamResponse(known.status, known.headers, None, self._loop, body))
            self._let_go(known.framing)
        return True

    def _take_missing(self, data: bytes) -> None:
        """Take more of the body of such an answer."""
        missing = self._missing
        self._missing = max(0, missing - len(data))
        self._feed(data[:missing])
        if not self._missing:
            self._complete(can_reuse=len(data) == missing)
            self._release()

    def _feed(self, body: bytes) -> None:
        response = self._response
        if body and response is not None and not response.feed(body):
            self._rest()
        elif self._transport.is_reading():
            self._watchdog.watch("idle", self._limits.idle_s)

    def _parse(self, data: bytes) -> None:
        body_bytes = self._body_bytes
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.abort(UpstreamProtocolError("upstream switched protocols"))
            return
        except httptools.HttpParserError as error:
            self._can_reuse = False
            if not self._is_complete:
                self.abort(_reason(error))
                return
        self._overhead_bytes = 0 if self._body_bytes > body_bytes else self._overhead_bytes + len(data)
        self._after_feed()

    def eof_received(self) -> None:
        """Let the transport close; `connection_lost` follows."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closed = True
        if self._response is not None and exc is None and self._framing is not None and self._framing.until_close:
            self._response.finish()
            self._response = None
        self.abort(UpstreamDisconnected("upstream closed the connection in the middle of its answer"))
        self._watchdog.close()
        del self._parser  # it refers to this connection, whose memory should not wait for the garbage collector
        self._owner.lost(self)

    def _after_feed(self) -> None:
        """Let go, or go on; what brings no body forward (unfinished lines, extensions, trailers) is bounded too."""
        if self._is_complete:
            self._release()
        elif self._overhead_bytes > self._limits.max_header_bytes:
            self.abort(UpstreamProtocolError("header section of the upstream's answer is too large"))
        elif self._response is not None and self._transport.is_reading():
            self._watchdog.watch("idle", self._limits.idle_s)

    def _release(self) -> None:
        """The answer is whole: close, or learn its head and be idle."""
        response, framing, start = self._response, self._framing, self._start
        self._start = b""
        if not self._can_reuse or response is None or framing is None:
            self._response = self._head = None
            self.abort(UpstreamDisconnected("connection cannot be used again"))
            return
        if start:
            self._owner.known.learn(start, self._received, response.status, response.headers, framing)
        if not self._transport.is_reading():
            self._transport.resume_reading()
        self._let_go(framing)

    def _let_go(self, framing: Framing) -> None:
        """Be idle, unless the answer came before the request was taken."""
        self._response = self._head = None
        self._is_busy = False
        if self._transport.get_write_buffer_size():
            self.abort(UpstreamDisconnected("connection cannot be used again"))
            return
        keepalive_s = self._limits.keepalive_s
        if framing.keepalive_s is not None and framing.keepalive_s < keepalive_s:
            keepalive_s = framing.keepalive_s
        self._watchdog.rest(keepalive_s)
        self._owner.released(self)

    # --- the parser's side

    def on_message_begin(self) -> None:
        if self._is_complete:
            raise UpstreamProtocolError("upstream sent two answers to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value) + 4
        if self._header_bytes > self._limits.max_header_bytes:
            raise UpstreamProtocolError("header section of the upstream's answer is too large")
        if self._response is None:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status <= 199 and status != 101:
            return
        framing = read_framing(status, self._headers, is_head=self._is_head, max_body_bytes=self._limits.max_body_bytes)
        self._framing = framing
        self._answer(UpstreamResponse(status, tuple(self._headers), self, self._loop))
        if self._is_head:
            self._complete(can_reuse=False)

    def on_body(self, chunk: bytes) -> None:
        if self._response is None or self._framing is None or self._is_head:
            return
        self._body_bytes += len(chunk)
        limit = self._framing.max_body_bytes
        if limit is not None and self._body_bytes > limit:
            raise UpstreamTooLarge("upstream's body exceeds the limit")
        if not self._response.feed(chunk):
            self._rest()

    def on_message_complete(self) -> None:
        if self._framing is None:
            self._headers = []  # an interim answer, such as 103
        elif not self._is_complete:
            self._complete(can_reuse=self._parser.should_keep_alive())

    def _rest(self) -> None:
        self._transport.pause_reading()
        self._watchdog.watch("idle", math.inf)

    def _answer(self, response: UpstreamResponse) -> None:
        self._response, head = response, self._head
        if head is not None and not head.done():
            head.set_result(response)

    def _complete(self, *, can_reuse: bool) -> None:
        self._is_complete = True
        self._can_reuse = can_reuse
        if self._response is not None:
            self._response.finish()


def _reason(error: httptools.HttpParserError) -> UpstreamError:
    """Return what a callback raised, or the parser's own complaint."""
    cause = error.__context__
    return (
        cause if isinstance(cause, UpstreamError) else UpstreamProtocolError(f"upstream's answer is not HTTP: {error}")
    )
