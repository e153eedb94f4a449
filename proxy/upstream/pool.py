"""Connections to one upstream, handed out one request at a time."""

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from proxy.upstream.connection import Connection
from proxy.upstream.errors import (
    UpstreamBusy,
    UpstreamDisconnected,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from proxy.upstream.repeated import KnownHeads
from proxy.upstream.request import render_head, with_body
from proxy.upstream.response import UpstreamResponse
from proxy.upstream.target import UpstreamLimits, UpstreamTarget

_HEADS = 256
"""So many rendered heads are kept, by what they were made of."""


@dataclass(frozen=True, slots=True)
class PoolStats:
    """`open` counts connections that are idle, in use, being made or being closed."""

    open: int
    idle: int
    waiting: int


class UpstreamPool:
    """A client of one upstream; belongs to the event loop in which it first sends.

    No redirects, no proxies from the environment, no retries, no compression. Idle connections are used newest first.
    """

    def __init__(
        self, target: UpstreamTarget, limits: UpstreamLimits, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        self._target = target
        self._limits = limits
        self._path = target.path.encode("ascii")
        self._authority = target.authority.encode("ascii")
        self._ssl = None
        if target.scheme == "https":
            self._ssl = ssl_context or ssl.create_default_context()
        self.known = KnownHeads()
        self._heads: dict[tuple[bytes, bytes, tuple[tuple[bytes, bytes], ...]], bytes] = {}
        self._connections: set[Connection] = set()
        self._idle: list[Connection] = []
        self._line: deque[asyncio.Future[Connection | None]] = deque()
        self._open = 0
        self._is_closed = False
        self._emptied: asyncio.Future[None] | None = None

    async def send(
        self,
        method: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        *,
        path: bytes | None = None,
        limits: UpstreamLimits | None = None,
    ) -> UpstreamResponse:
        """Send one request and return its response once the response headers are here.

        Host, length, connection and accept-encoding headers are written by the pool and refused from the caller.
        `limits` replaces the pool's durations and sizes for this request (not its connections). Raises
        UpstreamError; cancelling the call closes the connection that it used.
        """
        request = with_body(method, self._head(method, path or self._path, tuple(headers)), body)
        connection = self._take_idle() or await self._acquire()
        head = connection.send(request, limits or self._limits, is_head=method == b"HEAD")
        try:
            return await head
        except asyncio.CancelledError:
            connection.cancel(head)
            raise
        finally:
            del head  # it may hold an error whose traceback holds this frame, and with it the connection

    async def aclose(self) -> None:
        """Close every connection, fail every request under way, and return once the sockets are gone."""
        self._is_closed = True
        while self._line:
            waiter = self._line.popleft()
            if not waiter.done():
                waiter.set_exception(UpstreamUnreachable("upstream pool is closed"))
        for connection in tuple(self._connections):
            if connection.is_made:  # the others give up by themselves, within `connect_s`
                connection.abort(UpstreamDisconnected("upstream pool is closed"))
        self._idle.clear()
        if self._open:
            self._emptied = self._emptied or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._emptied)

    def _head(self, method: bytes, path: bytes, headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
        """Return the rendered head: callers repeat theirs, and rendering judges every byte of it."""
        key = (method, path, headers)
        known = self._heads.get(key)
        if known is None:
            known = render_head(method, path, self._authority, headers)
            if len(self._heads) >= _HEADS:
                self._heads.clear()
            self._heads[key] = known
        return known

    def stats(self) -> PoolStats:
        return PoolStats(self._open, len(self._idle), len(self._line))

    def released(self, connection: Connection) -> None:
        """Pass a connection whose answer is whole to the next in line, or keep it."""
        waiter = self._next_in_line() if self._line else None
        if waiter is not None:
            waiter.set_result(connection)
        else:
            self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        """Forget a connection whose socket is gone; its place goes to the next in line. Twice is as good as once."""
        if connection in self._connections:
            self._connections.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            self._free_place()

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable():
                return connection
            connection.abort(UpstreamDisconnected("idle connection went stale"))
        return None

    async def _acquire(self) -> Connection:
        """Return a connection that nothing was written to; never more than `max_connections` exist."""
        while True:
            if self._is_closed:
                raise UpstreamUnreachable("upstream pool is closed")
            if self._open < self._limits.max_connections:
                self._open += 1
                return await self._connect()
            connection = await self._wait_in_line()
            if connection is None:
                return await self._connect()
            if connection.is_usable():
                return connection
            connection.abort(UpstreamDisconnected("idle connection went stale"))

    async def _wait_in_line(self) -> Connection | None:
        """Return a connection, or None for the right to make one; UpstreamBusy where that takes too long."""
        if len(self._line) >= self._limits.max_waiting:
            raise UpstreamBusy("too many requests wait for a connection to the upstream")
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._line.append(waiter)
        try:
            async with asyncio.timeout(self._limits.acquire_s):
                return await waiter
        except (TimeoutError, asyncio.CancelledError) as error:
            self._leave_line(waiter)
            if isinstance(error, TimeoutError):
                raise UpstreamBusy("no connection to the upstream became free in time") from None
            raise

    def _leave_line(self, waiter: asyncio.Future[Connection | None]) -> None:
        """Give back what a waiter was handed in the moment in which it gave up."""
        if waiter in self._line:
            self._line.remove(waiter)
        if not waiter.done() or waiter.cancelled() or waiter.exception() is not None:
            return
        connection = waiter.result()
        if connection is None:
            self._free_place()
        else:
            self.released(connection)

    def _next_in_line(self) -> asyncio.Future[Connection | None] | None:
        while self._line:
            waiter = self._line.popleft()
            if not waiter.done():
                return waiter
        return None

    async def _connect(self) -> Connection:
        """Use a place that is already counted; give it up where no connection comes of it."""
        loop = asyncio.get_running_loop()
        connection = Connection(loop, self)
        self._connections.add(connection)
        try:
            async with asyncio.timeout(self._limits.connect_s):
                await loop.create_connection(
                    lambda: connection,
                    self._target.host,
                    self._target.port,
                    ssl=self._ssl,
                    server_hostname=self._target.host if self._ssl is not None else None,
                )
        except BaseException as error:
            self.lost(connection)  # cancelled in the moment in which the socket was there, uvloop never tells
            if isinstance(error, TimeoutError):
                raise UpstreamTimeout("connect", sent=False) from error
            if isinstance(error, OSError | UnicodeError):
                raise UpstreamUnreachable(f"upstream {self._target.authority} cannot be reached: {error}") from error
            raise
        if self._is_closed:
            connection.abort(UpstreamDisconnected("upstream pool is closed"))
            raise UpstreamUnreachable("upstream pool is closed")
        return connection

    def _free_place(self) -> None:
        waiter = self._next_in_line()
        if waiter is not None:
            waiter.set_result(None)
            return
        self._open -= 1
        if not self._open and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)
