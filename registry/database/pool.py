"""Connections to PostgreSQL, and one clear error when there is none."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, cast
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import asyncpg

from registry.database.driver import Connection, Pool
from registry.database.errors import DatabaseUnavailable

CONNECT_TIMEOUT_S: Final = 10.0
_FORM = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
_asyncpg = cast("Any", asyncpg)

CONNECTION_ERRORS: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.TooManyConnectionsError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""What asyncpg raises when a connection cannot be made or is lost; a statement of its own fault is not among them."""


async def connect(
    dsn: str,
    *,
    timeout_s: float = CONNECT_TIMEOUT_S,
    application_name: str = "postern",
    settings: Mapping[str, str] | None = None,
) -> Connection:
    """Return a new connection; raise DatabaseUnavailable."""
    with translated(dsn, connecting=True):
        made = await _asyncpg.connect(
            dsn, timeout=timeout_s, server_settings={"application_name": application_name, **(settings or {})}
        )
    return cast("Connection", made)


@asynccontextmanager
async def connection(
    dsn: str, *, timeout_s: float = CONNECT_TIMEOUT_S, application_name: str = "postern"
) -> AsyncIterator[Connection]:
    """Lend a connection of its own for a block; a connection lost on the way is DatabaseUnavailable too."""
    opened = await connect(dsn, timeout_s=timeout_s, application_name=application_name)
    try:
        with translated(dsn):
            yield opened
    finally:
        opened.terminate() if opened.is_closed() else await _closed(opened, timeout_s)


async def create_pool(
    dsn: str,
    *,
    min_size: int = 1,
    max_size: int = 10,
    timeout_s: float = CONNECT_TIMEOUT_S,
    command_timeout_s: float | None = None,
    application_name: str = "postern",
    settings: Mapping[str, str] | None = None,
    init: Callable[[Any], Awaitable[None]] | None = None,
) -> Pool:
    """Return a pool with its first connections made; raise DatabaseUnavailable."""
    with translated(dsn, connecting=True):
        made = await _asyncpg.create_pool(
            dsn,
            min_size=min_size,
            max_size=max_size,
            timeout=timeout_s,
            command_timeout=command_timeout_s,
            server_settings={"application_name": application_name, **(settings or {})},
            init=init,
        )
    return cast("Pool", made)


@contextmanager
def translated(dsn: str, *, connecting: bool = False) -> Iterator[None]:
    """Turn asyncpg's connection errors in this block into DatabaseUnavailable, without a word of the password."""
    check_dsn(dsn)
    try:
        yield
    except asyncpg.ClientConfigurationError as error:
        raise _malformed() from error.with_traceback(None) if False else None
    except CONNECTION_ERRORS as error:
        raise DatabaseUnavailable(f"PostgreSQL at {describe_dsn(dsn)}: {explain(error)}") from error
    except asyncpg.PostgresError as error:
        if not connecting:
            raise
        raise DatabaseUnavailable(f"PostgreSQL at {describe_dsn(dsn)}: it refused the connection: {error}") from error
