"""Connections to PostgreSQL, and one clear error when there is none."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import asyncpg

from registry.database.driver import Connection, Pool
from registry.database.dsn import check_dsn, describe_dsn, malformed
from registry.database.errors import DatabaseUnavailable

CONNECT_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 5.0

_asyncpg = cast("Any", asyncpg)
_REFUSED = (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_LOST = (
    ConnectionError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
)
# asyncpg has one class for a lost connection and for wrong use; a pooled connection that is lost counts as released.
_GONE: Final = ("is closed", "is closing", "was closed", "released back to the pool")
_ADVICE: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((TimeoutError,), "it does not answer in time: check host, port and firewall"),
    ((asyncpg.InvalidPasswordError,), "it refuses the password: check user and password"),
    ((asyncpg.InvalidAuthorizationSpecificationError,), "it refuses the user: check user, password and pg_hba.conf"),
    ((asyncpg.InvalidCatalogNameError,), "the database does not exist: create it"),
    ((asyncpg.InsufficientPrivilegeError,), "the user may not connect: GRANT CONNECT ON DATABASE to it"),
    ((asyncpg.TooManyConnectionsError,), "it has no free connection: raise max_connections or use fewer workers"),
    ((asyncpg.CannotConnectNowError,), "it is starting or stopping: try again"),
    ((PermissionError,), "its socket is closed to this operating system user"),
    ((FileNotFoundError,), "its socket is not there; an embedded one runs while `postern up` does"),
    ((ConnectionRefusedError,), "it cannot be reached: check that it runs, and host and port"),
    ((*_LOST, asyncpg.InterfaceError), "the connection was lost: check that it runs"),
    ((OSError,), "it cannot be reached: check that it runs, and host and port"),
)


async def connect(
    dsn: str,
    *,
    timeout_s: float = CONNECT_TIMEOUT_S,
    application_name: str = "postern",
    settings: Mapping[str, str] | None = None,
) -> Connection:
    """Return a new connection; raise DatabaseUnavailable."""
    check_dsn(dsn)
    try:
        made = await _asyncpg.connect(
            dsn, timeout=timeout_s, server_settings={"application_name": application_name, **(settings or {})}
        )
    except _REFUSED as error:
        raise unavailable(dsn, error) from _cause(error)
    return cast("Connection", made)


@asynccontextmanager
async def connection(
    dsn: str, *, timeout_s: float = CONNECT_TIMEOUT_S, application_name: str = "postern"
) -> AsyncGenerator[Connection]:
    """Lend a connection of its own for a block; that it is lost in the block is DatabaseUnavailable, too."""
    lent = await connect(dsn, timeout_s=timeout_s, application_name=application_name)
    try:
        yield lent
    except Exception as error:
        if is_connection_error(error):
            raise unavailable(dsn, error) from error
        raise
    finally:
        await _close(lent)


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
    """Return a pool whose first `min_size` connections are made; raise DatabaseUnavailable.

    With min_size=0 nothing is connected yet, so that a process can start before its database.
    """
    check_dsn(dsn)
    try:
        made = await _asyncpg.create_pool(
            dsn,
            min_size=min_size,
            max_size=max_size,
            timeout=timeout_s,
            command_timeout=command_timeout_s,
            server_settings={"application_name": application_name, **(settings or {})},
            init=init,
        )
    except _REFUSED as error:
        raise unavailable(dsn, error) from _cause(error)
    return cast("Pool", made)


def is_connection_error(error: BaseException) -> bool:
    """Say whether asyncpg raised `error` because a connection is lost, closed or not to be had.

    A statement's own fault, a wrong argument and a second operation on a busy connection are not that.
    """
    if isinstance(error, asyncpg.InterfaceError):
        return any(sign in str(error) for sign in _GONE)
    return isinstance(error, (*_LOST, asyncpg.TooManyConnectionsError))


def unavailable(dsn: str, error: BaseException) -> DatabaseUnavailable:
    """Return what to raise for a failed or lost connection: where, why and what to do, never the password."""
    if isinstance(error, (asyncpg.ClientConfigurationError, ValueError)):
        return malformed("a part of it is not understood")
    advice = next((text for kinds, text in _ADVICE if isinstance(error, kinds)), type(error).__name__)
    told = f" ({error})" if isinstance(error, asyncpg.PostgresError) else ""
    return DatabaseUnavailable(f"PostgreSQL {describe_dsn(dsn)}: {advice}{told}")


def _cause(error: BaseException) -> BaseException | None:
    """Return the error to chain: not one that quotes the address, which holds the password."""
    return None if isinstance(error, ValueError) else error


async def _close(lent: Connection) -> None:
    try:
        await lent.close(timeout=CLOSE_TIMEOUT_S)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        lent.terminate()
