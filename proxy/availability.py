"""Which servers can be called now, and what they speak, as this host's plugin last wrote it to the table `services`."""

import asyncio
import logging

import asyncpg

from registry.database import queries
from registry.database.driver import Pool

CHANNEL = "postern_services"
_POLL_S = 2.0

_log = logging.getLogger("postern.availability")


class ServiceBoard:
    """A copy of the table's verdicts, renewed on notification and every few seconds.

    A server without a row is routable: without the plugin (sidecar, tests) nobody writes rows, and a server that is
    not there answers with an unreachable upstream. While PostgreSQL is away the last verdicts stand; no call
    passes then anyway, because none could be recorded.
    """

    def __init__(self, pool: Pool, host: str) -> None:
        self._pool = pool
        self._host = host
        self._sql = queries.load("proxy", "availability.sql")
        self._blocked: dict[str, str] = {}
        self._versions: dict[str, tuple[str, ...]] = {}
        self._changed = asyncio.Event()

    def why_not(self, server: str) -> str | None:
        """Return why the server cannot be called, or None if it can."""
        return self._blocked.get(server)

    def versions_of(self, server: str) -> tuple[str, ...]:
        """Return the protocol versions that a server's health checks have found; none where nobody has looked."""
        return self._versions.get(server, ())

    def notify(self) -> None:
        """Something changed: read again now."""
        self._changed.set()

    async def refresh(self) -> None:
        """Read the verdicts."""
        rows = await self._pool.fetch(self._sql["services"], self._host)
        self._blocked = {row["server"]: row["why"] for row in rows if row["is_blocked"]}
        self._versions = {row["server"]: tuple(row["protocol_versions"]) for row in rows}

    async def run(self) -> None:
        """Keep reading until cancelled."""
        while True:
            self._changed.clear()
            try:
                await self.refresh()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
                _log.warning("the state of the servers cannot be read: %s", error)
            try:
                async with asyncio.timeout(_POLL_S):
                    await self._changed.wait()
            except TimeoutError:
                continue
