"""One HTTP request and its single answer, as the pipeline sees it; the ASGI edge is below."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Protocol

Header = tuple[bytes, bytes]
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

WATCH_AFTER_S = 0.05
_DISCARDED_BYTES = 8 * 1024 * 1024
"""So much beyond the limit is read and dropped: a client that is answered while it still sends sees a reset instead."""


class BodyTooLargeError(Exception):
    """The client sent, or announced, more than the server takes."""


class ClientGoneError(Exception):
    """The client closed the connection before its request was whole."""


class Exchange(Protocol):
    """A request, and the only way to answer it. Header names are lower-case; `path` is decoded and without query."""

    method: str
    path: str
    query: bytes
    headers: Sequence[Header]
    remote: str
    scheme: str
    has_begun: bool
    """Whether the first byte of the answer has left."""

    async def read_body(self, limit: int) -> bytes:
        """Return the whole body; raise `BodyTooLargeError` or `ClientGoneError`."""
        ...

    def add_headers(self, headers: Sequence[Header]) -> None:
        """Send these with whatever is answered."""
        ...

    async def answer(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        """Send a complete answer."""
        ...

    async def open(self, status: int, headers: Sequence[Header]) -> None:
        """Start a streamed answer."""
        ...

    async def write(self, chunk: bytes) -> None:
        """Send a part of a streamed answer; waits while the client is slow."""
        ...

    async def close(self) -> None:
        """End a streamed answer."""
        ...

    def on_gone(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` once if the client leaves; the returned function stops watching."""
        ...


class AsgiExchange:
    """The exchange of one ASGI `http` scope."""

    __slots__ = ("_always", "_receive", "_send", "has_begun", "headers", "method", "path", "query", "remote", "scheme")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._always: list[Header] = []
        self.has_begun = False
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope["query_string"]
        self.headers: Sequence[Header] = scope["headers"]
        self.scheme: str = scope["scheme"]
        client = scope.get("client")
        self.remote: str = client[0] if client else "unknown"

    async def read_body(self, limit: int) -> bytes:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            return self._within(message.get("body", b""), limit)
        parts: list[bytes] = []
        size = 0
        while message["type"] != "http.disconnect":
            part: bytes = message.get("body", b"")
            size += len(part)
            if size <= limit:
                parts.append(part)
            elif size > limit + _DISCARDED_BYTES:
                raise BodyTooLargeError
            if not message.get("more_body"):
                return self._within(b"".join(parts), limit if size <= limit else -1)
            message = await self._receive()
        raise ClientGoneError

    @staticmethod
    def _within(body: bytes, limit: int) -> bytes:
        if len(body) > limit:
            raise BodyTooLargeError
        return body

    def add_headers(self, headers: Sequence[Header]) -> None:
        self._always.extend(headers)

    async def answer(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        self.has_begun = True
        length = (b"content-length", b"%d" % len(body))
        await self._send(
            {"type": "http.response.start", "status": status, "headers": [*headers, *self._always, length]}
        )
        await self._send({"type": "http.response.body", "body": body})

    async def open(self, status: int, headers: Sequence[Header]) -> None:
        self.has_begun = True
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, *self._always]})
        await self._send({"type": "http.response.body", "body": b"", "more_body": True})

    async def write(self, chunk: bytes) -> None:
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def close(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})

    def on_gone(self, callback: Callable[[], None]) -> Callable[[], None]:
        watch = _GoneWatch(self._receive, callback)
        return watch.cancel


class _GoneWatch:
    """Waits for `http.disconnect`. The watching task starts late, because most answers are there before it could."""

    __slots__ = ("_callback", "_receive", "_task", "_timer")

    def __init__(self, receive: Receive, callback: Callable[[], None]) -> None:
        self._receive = receive
        self._callback = callback
        self._task: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._start)

    def _start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._callback()

    def cancel(self) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
