"""Signatures that were used: each nonce once, whichever worker or replica sees it first."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from registry.database.pool import is_connection_error
from registry.database.queries import load

CLAIM_TIMEOUT_S = 2.0
PRUNE_EVERY_S = 60.0

_SQL = load("proxy.auth", "nonces.sql")
_log = logging.getLogger("postern.nonces")


class NonceStoreUnavailableError(Exception):
    """It cannot be told whether a nonce was used."""


class NonceStore(Protocol):
    """Remembers nonces until `until` (seconds since the epoch). Raises `NonceStoreUnavailableError`."""

    async def claim(self, kid: str, nonce: str, until: float) -> bool: ...


class NoNonces:
    """The store of a proxy that was given none: nothing can be proven fresh, so nothing passes."""

    async def claim(self, kid: str, nonce: str, until: float) -> bool:  # noqa: ARG002 -- the seam's signature
        """Refuse."""
        raise NonceStoreUnavailableError


class Statements(Protocol):
    """What is needed of a connection pool."""

    async def fetchval(self, query: str, *args: Any) -> Any: ...


class PostgresNonces:
    """Nonces in the table `proxy_nonces`, durable before the request goes on."""

    def __init__(self, pool: Statements, timeout_s: float = CLAIM_TIMEOUT_S) -> None:
        self._pool = pool
        self._timeout_s = timeout_s

    async def claim(self, kid: str, nonce: str, until: float) -> bool:
        """Return whether this is the first use."""
        return await self._run("claim", kid, nonce, until) is not None

    async def prune(self, now: float) -> int:
        """Drop what no clock of ours can accept any more; return how many."""
        return int(await self._run("prune", now) or 0)

    async def prune_forever(self, clock: Callable[[], float]) -> None:
        """Prune now and then; a store that is away is tried again."""
        while True:
            try:
                await self.prune(clock())
            except NonceStoreUnavailableError:
                _log.warning("used nonces cannot be pruned now")
            await asyncio.sleep(PRUNE_EVERY_S)

    async def _run(self, statement: str, *arguments: object) -> Any:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._pool.fetchval(_SQL[statement], *arguments)
        except Exception as error:
            if isinstance(error, (OSError, TimeoutError)) or is_connection_error(error):
                raise NonceStoreUnavailableError from error
            raise
