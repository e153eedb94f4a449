"""The connections of one worker: accepted, watched, drained."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from email.utils import formatdate

from proxy.edge.connection import Connection, Times
from proxy.edge.exchange import HttpExchange

_TIMES = Times()


class Listener:
    """Hands each request to `handle`, which answers it and raises nothing. `now` moves every `tick_s` seconds."""

    def __init__(
        self,
        handle: Callable[[HttpExchange], Awaitable[None]],
        exchange_type: type[HttpExchange] = HttpExchange,
        times: Times = _TIMES,
        tick_s: float = 1.0,
    ) -> None:
        self.handle = handle
        self.exchange_type = exchange_type
        self.times = times
        self._tick_s = tick_s
        self._loop = asyncio.get_running_loop()
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._is_closing = False
        self._tick()

    async def start(self, listening: socket.socket) -> None:
        """Accept from now on."""
        self._server = await self._loop.create_server(lambda: Connection(self._loop, self), sock=listening)

    async def close(self, grace_s: float) -> None:
        """Accept no more, let what is under way finish within `grace_s`, then cancel it."""
        self._is_closing = True
        self._server.close()
        for connection in list(self._connections):
            connection.finish()
        if self._ending or self._connections:
            await asyncio.wait([*self._connections.values(), *self._ending], timeout=grace_s)
        self.cancel()
        while self._ending or self._connections:
            await asyncio.wait([*self._connections.values(), *self._ending])
        self._timer.cancel()

    def cancel(self) -> None:
        """End what is under way now."""
        for task in [*self._connections.values(), *self._ending]:
            task.cancel()

    def date(self) -> bytes:
        """Return the header line that every answer has (RFC 9110 §6.6.1)."""
        return self._date

    def joined(self, connection: Connection, task: "asyncio.Task[None]") -> None:
        self._connections[connection] = task
        if self._is_closing:
            connection.finish()

    def left(self, connection: Connection) -> None:
        """Its socket is gone; what it was handling may still have a row to write."""
        task = self._connections.pop(connection)
        if not task.done():
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def _tick(self) -> None:
        self.now = self._loop.time()
        self._date = f"date: {formatdate(usegmt=True)}\r\n".encode()
        for connection in [each for each in self._connections if each.deadline < self.now]:
            connection.abort()
        self._timer = self._loop.call_later(self._tick_s, self._tick)
