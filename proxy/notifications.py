"""One connection that listens for what other processes changed; reconnects for ever."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from time import monotonic
from uuid import uuid4

import asyncpg

from registry.database.driver import Connection, Queryable
from registry.database.errors import DatabaseUnavailable
from registry.database.pool import connect

ECHO_CHANNEL = "postern_echo"
_RETRY_S = 1.0
_PROBE_S = 5.0

_log = logging.getLogger("postern.notifications")

Handler = Callable[[str], None]


class DeafError(Exception):
    """What was said on another connection is not heard on this one."""


async def listen(
    dsn: str,
    pool: Queryable,
    handlers: Mapping[str, Handler],
    on_reconnect: Callable[[], None],
    on_current: Callable[[float], None],
) -> None:
    """Call the channel's handler with each payload; `on_reconnect` says that some may have been missed.

    `on_current` says that everything has been told that was committed before that time (`time.monotonic`). To know
    that, the listener is called by way of `pool`.
    """
    while True:
        try:
            connection = await connect(dsn, application_name="postern notifications")
        except DatabaseUnavailable as error:
            _log.warning("cannot listen for changes: %s", error)
            await asyncio.sleep(_RETRY_S)
            continue
        try:
            await _subscribe(connection, handlers)
            on_reconnect()
            await _watch(connection, pool, on_current)
        except DeafError:
            _log.warning(
                "nothing is heard of changes: the connection is dead, or a pooling proxy between is not in session mode"
            )
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
            _log.warning("listening for changes was interrupted: %s", error)
        finally:
            connection.terminate()
        await asyncio.sleep(_RETRY_S)


async def _subscribe(connection: Connection, handlers: Mapping[str, Handler]) -> None:
    for channel, handler in handlers.items():

        def deliver(_connection: object, _pid: int, _channel: str, payload: object, handler: Handler = handler) -> None:
            handler(str(payload))

        await connection.add_listener(channel, deliver)


async def _watch(connection: Connection, pool: Queryable, on_current: Callable[[float], None]) -> None:
    """Call now and then and hear the echo: what was told before it has arrived, too.

    The call comes from another connection, while this one rests. A pooling proxy in transaction mode lets through what
    comes while a connection is busy, so that one that called itself would hear itself, and nobody else.
    """
    token, heard = uuid4().hex, asyncio.Event()
    await _subscribe(connection, {ECHO_CHANNEL: lambda payload: heard.set() if payload == token else None})
    while True:
        called = monotonic()
        async with asyncio.timeout(_PROBE_S):
            await pool.execute("select pg_notify($1, $2)", ECHO_CHANNEL, token)
        try:
            async with asyncio.timeout(_PROBE_S):
                await heard.wait()
        except TimeoutError:
            raise DeafError from None
        on_current(called)
        heard.clear()
        await asyncio.sleep(_PROBE_S)
