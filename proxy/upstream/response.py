"""An answer whose headers have arrived and whose body is read by one consumer."""

import asyncio
from typing import Protocol, Self

from proxy.upstream.errors import UpstreamDisconnected, UpstreamError, UpstreamTooLarge

HIGH_WATER_BYTES = 64 * 1024
"""Beyond this many unread bytes the connection stops reading its socket."""


class Source(Protocol):
    """The connection as its response sees it."""

    def resume_reading(self) -> None: ...
    def abort(self, error: UpstreamError) -> None: ...


class UpstreamResponse:
    """Status, headers (names in lower case) and a body to be read once, whole or chunk by chunk.

    Whoever holds one reads it to its end or calls `aclose`; leaving the `async with` block does that. Abandoning a body
    closes the connection, which is how a modern-era request is cancelled.
    """

    __slots__ = ("_buffered", "_chunks", "_error", "_loop", "_source", "_waiter", "headers", "status")

    def __init__(
        self,
        status: int,
        headers: tuple[tuple[bytes, bytes], ...],
        source: Source | None,
        loop: asyncio.AbstractEventLoop,
        body: bytes = b"",
    ) -> None:
        """`source` is None where the whole body is here."""
        self.status = status
        self.headers = headers
        self._chunks = [body] if body else []
        self._buffered = len(body)
        self._error: UpstreamError | None = None
        self._source = source
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None

    async def read(self, limit: int) -> bytes:
        """Return the rest of the body; beyond `limit` bytes the connection is closed and UpstreamTooLarge raised."""
        if self._source is None and self._error is None and self._buffered <= limit:
            return self._take()
        parts: list[bytes] = []
        size = 0
        async for chunk in self:
            size += len(chunk)
            if size > limit:
                await self.aclose()
                raise UpstreamTooLarge("upstream's body exceeds the limit of its reader")
            parts.append(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return everything that has arrived since the last call; wait where nothing has."""
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._source is None:
                raise StopAsyncIteration
            self._waiter = self._loop.create_future()
            await self._waiter
        return self._take()

    def close(self) -> None:
        """Drop what is unread; close the connection unless the body had arrived whole."""
        self._chunks.clear()
        self._buffered = 0
        if self._source is not None:
            self._source.abort(UpstreamDisconnected("the answer was abandoned by its reader"))

    async def aclose(self) -> None:
        """Do what `close` does."""
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def feed(self, chunk: bytes) -> bool:
        """Add a chunk; return False where the connection should stop reading."""
        self._chunks.append(chunk)
        self._buffered += len(chunk)
        self._wake()
        return self._buffered < HIGH_WATER_BYTES

    def finish(self, error: UpstreamError | None = None) -> None:
        """End the body: whole, or with the error that its reader gets after what has arrived."""
        self._error = error
        self._source = None
        self._wake()

    def _take(self) -> bytes:
        chunks, self._chunks = self._chunks, []
        chunk = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        was_full, self._buffered = self._buffered >= HIGH_WATER_BYTES, 0
        if was_full and self._source is not None:
            self._source.resume_reading()
        return chunk

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
