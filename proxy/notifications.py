"""One connection that listens for what other processes changed; reconnects for ever."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from time import monotonic

import asyncpg

from registry.database.driver import Connection
from registry.database.errors import DatabaseUnavailable
from registry.database.pool import connect

_RETRY_S = 1.0
_PROBE_S = 5.0

_log = logging.getLogger("postern.notifications")

Handler = Callable[[str], None]


async def listen(
    dsn: str, handlers: Mapping[str, Handler], on_reconnect: Callable[[], None], on_current: Callable[[float], None]
) -> None:
    """Call the channel's handler with each payload; `on_reconnect` says that some may have been missed.

    `on_current` says that everything has been told that was committed before that time (`time.monotonic`).
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
            on_current(monotonic())
            await _watch(connection, on_current)
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


async def _watch(connection: Connection, on_current: Callable[[float], None]) -> None:
    """A dead connection is silent; ask it now and then. PostgreSQL sends what it has to tell before its answer."""
    while True:
        await asyncio.sleep(_PROBE_S)
        asked = monotonic()
        await connection.execute("select 1", timeout=_PROBE_S)
        on_current(asked)
