"""One HTTP request as it arrives, and its single answer: the `Exchange` of the pipeline."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from proxy.edge.head import BODYLESS, render_head
from proxy.exchange import BodyTooLargeError, BrokenRequestError, ClientGoneError, Header
from proxy.wire.fields import Fields

HIGH_WATER_BYTES = 64 * 1024
"""So much of a body that nobody reads yet is taken; then the socket rests."""
DISCARDED_BYTES = 8 * 1024 * 1024
"""So much beyond the limit is read and dropped: a client that is answered while it still sends sees a reset instead."""
_JOINED_BYTES = 16 * 1024


class Line(Protocol):
    """The connection as its exchanges see it."""

    remote: str
    is_full: bool
    """Whether what was written waits for a slow client."""

    def send(self, data: bytes, /, *more: bytes) -> None: ...
    def rest(self) -> None: ...
    def go_on(self) -> None: ...
    def date(self) -> bytes: ...
    async def drained(self) -> None: ...


class HttpExchange:
    """`keep_alive`: another request may follow on the connection. `is_answered`: the last byte was written."""

    __slots__ = (
        *("_allowance", "_always", "_body", "_gone", "_is_chunked", "_is_cut", "_limit", "_line", "_on_gone", "_size"),
        *("_fault", "_waiter"),
        *("has_begun", "headers", "is_answered", "is_complete", "is_legacy", "keep_alive"),
        *("method", "path", "query", "remote", "scheme"),
    )

    def __init__(self, line: Line, method: str, target: tuple[str, bytes], headers: Fields, *, is_legacy: bool) -> None:
        self._line = line
        self.method = method
        self.path, self.query = target
        self.headers = headers
        self.remote = line.remote
        self.scheme = "http"
        self.is_legacy = is_legacy
        """HTTP/1.0: no chunks, no second request."""
        self.keep_alive = not is_legacy
        self.has_begun = self.is_answered = self.is_complete = False
        self._gone = self._is_chunked = self._is_cut = False
        self._always: tuple[Header, ...] = ()
        self._body: bytes | bytearray = b""
        self._fault: str | None = None
        self._size = 0
        self._limit: int | None = None
        self._allowance = HIGH_WATER_BYTES
        self._on_gone: Callable[[], None] | None = None
        self._waiter: asyncio.Future[None] | None = None

    # --- the connection's side

    def feed(self, part: bytes) -> None:
        """Take a part of the body; what is beyond the reader's limit is counted only, once there is a reader."""
        self._size += len(part)
        if self._limit is None or self._size <= self._limit:
            self._keep(part)
        else:
            self._is_cut = True
        if self._size > self._allowance:
            self._line.rest()
            self._wake()

    def take_whole(self, body: bytes) -> None:
        """Take a body that is not longer than anybody lets one be before it is read."""
        self._body = body
        self._size = len(body)
        self.is_complete = True

    def _keep(self, part: bytes) -> None:
        """Join the parts as they come: an object for each would cost many times its bytes."""
        if not self._body:
            self._body = part
            return
        if isinstance(self._body, bytes):
            self._body = bytearray(self._body)
        self._body += part

    def complete(self) -> None:
        self.is_complete = True
        self._wake()

    def spoil(self, fault: str) -> None:
        """The body turned out to be no HTTP."""
        self._fault = fault
        self.keep_alive = False
        self._wake()

    def leave(self) -> None:
        """The client is gone."""
        self._gone = True
        self._wake()
        callback, self._on_gone = self._on_gone, None
        if callback is not None:
            callback()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- the pipeline's side

    async def read_body(self, limit: int) -> bytes:
        if not self.is_complete:
            await self._arrive(limit)
        if self._size > limit or self._is_cut:
            raise BodyTooLargeError
        body, self._body = self._body, b""
        return body if type(body) is bytes else bytes(body)

    async def discard(self) -> None:
        """Read the rest of an answered request, so that the next one can follow."""
        if not self.is_complete:
            await self._arrive(0)

    async def _arrive(self, limit: int) -> None:
        self._limit, self._allowance = max(limit, 0), limit + DISCARDED_BYTES
        if not self._size and not self.has_begun and self._expects_continue():
            self._line.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._line.go_on()
        while not self.is_complete:
            if self._gone:
                raise ClientGoneError
            if self._fault is not None:
                raise BrokenRequestError(self._fault)
            if self._size > self._allowance:
                self.keep_alive = False
                raise BodyTooLargeError
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def _expects_continue(self) -> bool:
        return not self.is_legacy and any(n == b"expect" and v.lower() == b"100-continue" for n, v in self.headers)

    def add_headers(self, headers: Sequence[Header]) -> None:
        self._always += tuple(headers)

    async def answer(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        if not self.is_complete and self._limit is None and self._expects_continue():
            self.keep_alive = False  # whether the body follows is now the client's guess, and ours would be another
        framing = b""
        if status in BODYLESS:
            body = b""
        else:
            framing = b"content-length: %d\r\n" % len(body)
            if self.method == "HEAD":
                body = b""
        self._begin(status, headers, framing, body)
        self.is_answered = True
        if self._line.is_full:
            await self._line.drained()

    async def open(self, status: int, headers: Sequence[Header]) -> None:
        self._is_chunked = not self.is_legacy
        self.keep_alive = self.keep_alive and self._is_chunked
        self._begin(status, headers, b"transfer-encoding: chunked\r\n" if self._is_chunked else b"", b"")

    async def write(self, chunk: bytes) -> None:
        if chunk and not self._gone:
            self._line.send(*((b"%x\r\n" % len(chunk), chunk, b"\r\n") if self._is_chunked else (chunk,)))
            if self._line.is_full:
                await self._line.drained()

    async def close(self) -> None:
        self.is_answered = True
        if self._is_chunked and not self._gone:
            self._line.send(b"0\r\n\r\n")
            await self._line.drained()

    def on_gone(self, callback: Callable[[], None]) -> Callable[[], None]:
        self._on_gone = callback
        if self._gone:
            asyncio.get_running_loop().call_soon(self.leave)
        return self._forget

    def _forget(self) -> None:
        self._on_gone = None

    def _begin(self, status: int, headers: Sequence[Header], framing: bytes, body: bytes) -> None:
        if self._always:
            headers = (*headers, *self._always)
        if not self.keep_alive:
            framing += b"connection: close\r\n"
        framing += self._line.date()
        if len(body) <= _JOINED_BYTES:
            parts = (render_head(status, headers, framing, body),)
        else:
            parts = (render_head(status, headers, framing), body)
        self.has_begun = True
        self._line.send(*parts)


async def refuse_plainly(exchange: HttpExchange, status: int, message: str) -> None:
    """Answer with a sentence of text."""
    await exchange.answer(status, [(b"content-type", b"text/plain; charset=utf-8")], f"{message}\n".encode())
