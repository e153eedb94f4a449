"""The connections of one worker: accepted, watched, drained."""

import asyncio
import math
import socket
from collections.abc import Awaitable, Callable
from email.utils import formatdate

from proxy.edge.connection import Connection, Times
from proxy.edge.exchange import HttpExchange, refuse_plainly
from proxy.edge.repeated import SeenHeads

SETTLE_S = 5.0
"""So long what is cancelled may take for its row and its last words."""
FLUSH_S = 1.0
"""So long the bytes of a last answer may take after that."""
_TIMES = Times()
_POLL_S = 0.02


class Listener:
    """Hands each request to `handle`, which answers it and raises nothing. `now` moves every `tick_s` seconds.

    What is no HTTP goes to `refuse`, with a status and a sentence: method, path (empty where not even that was
    understood) and remote address are all that is known of it. Beyond `max_connections` the one whose patience ends
    first is closed: an idle one, and never one with a request that is worked on, unless all of them are.
    """

    def __init__(
        self,
        handle: Callable[[HttpExchange], Awaitable[None]],
        exchange_type: type[HttpExchange] = HttpExchange,
        times: Times = _TIMES,
        tick_s: float = 1.0,
        *,
        refuse: Callable[[HttpExchange, int, str], Awaitable[None]] = refuse_plainly,
        max_connections: float = math.inf,
    ) -> None:
        self._max_connections = max_connections
        self.handle = handle
        self.refuse = refuse
        self.exchange_type = exchange_type
        self.times = times
        self.seen = SeenHeads()
        self._tick_s = tick_s
        self._loop = asyncio.get_running_loop()
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._is_closing = False
        self._flush_until = 0.0
        self._tick()

    async def start(self, listening: socket.socket) -> None:
        """Accept from now on."""
        self._server = await self._loop.create_server(lambda: Connection(self._loop, self), sock=listening)

    async def close(self, grace_s: float) -> None:
        """Accept no more, let what is under way finish within `grace_s`, then cancel it. No client can hold it up."""
        self._is_closing = True
        self._server.close()
        self._flush_until = self._loop.time() + grace_s
        for connection in list(self._connections):
            connection.finish()
        if (tasks := self._tasks()) and (await asyncio.wait(tasks, timeout=grace_s))[1]:
            self.cancel()
            await asyncio.wait(tasks, timeout=SETTLE_S)
        await self._flush()
        while tasks := self._tasks():
            await asyncio.wait(tasks)
        self._timer.cancel()

    async def _flush(self) -> None:
        """Let clients read their last answer, but not for ever: a connection stays open until all of it is sent."""
        until = max(self._flush_until, self._loop.time() + FLUSH_S)
        while self._connections and self._loop.time() < until:  # noqa: ASYNC110 -- a bounded moment, at the very end
            await asyncio.sleep(_POLL_S)
        for connection in list(self._connections):
            connection.abort()

    def cancel(self) -> None:
        """End what is under way now."""
        self._flush_until = 0.0
        for task in self._tasks():
            task.cancel()

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [*self._connections.values(), *self._ending]

    def date(self) -> bytes:
        """Return the header line that every answer has (RFC 9110 §6.6.1)."""
        return self._date

    def joined(self, connection: Connection, task: "asyncio.Task[None]") -> None:
        self._connections[connection] = task
        if len(self._connections) > self._max_connections:
            min(self._connections, key=lambda each: each.deadline).abort()
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
        self.seen.forget()
        self._date = f"date: {formatdate(usegmt=True)}\r\n".encode()
        for connection in [each for each in self._connections if each.deadline < self.now]:
            connection.abort()
        self._timer = self._loop.call_later(self._tick_s, self._tick)
