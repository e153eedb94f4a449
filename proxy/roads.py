"""The roads to the servers: one connection pool each, and what the proxy itself presents there."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from time import monotonic

from proxy.audit.hidden import Hidden
from proxy.exchange import Header
from proxy.upstream import UpstreamLimits, UpstreamPool, UpstreamTarget
from registry.models import Server

BRIDGE_HEADER = b"x-postern-bridge"
PRINCIPAL_HEADER = b"x-postern-principal"
_RETIRE_POLL_S = 0.2
_STREAMS = 4096
"""Most long-lived streams to one server; they are idle most of the time and never in the way of calls."""


class BridgeTokenMissingError(Exception):
    """The bridge of a stdio server has not been started yet, so its token does not exist."""


def target_of(server: Server) -> UpstreamTarget:
    """Where the server listens: its endpoint, or its port on loopback."""
    if server.endpoint is not None:
        return UpstreamTarget.from_url(server.endpoint)
    return UpstreamTarget("http", "127.0.0.1", server.port or 0, server.path)


def limits_of(server: Server) -> UpstreamLimits:
    """The limits of one exchange with the server."""
    times, limits = server.timeouts, server.limits
    return UpstreamLimits(
        connect_s=times.connect_s,
        first_byte_s=times.first_byte_s,
        idle_s=times.idle_s,
        total_s=times.total_s,
        max_connections=limits.concurrency,
        max_waiting=limits.concurrency,
        max_body_bytes=limits.response_bytes,
    )


class Road:
    """The pool to one server and the credentials that go with it."""

    def __init__(self, server: Server, credentials: Sequence[Header], state_dir: Path) -> None:
        limits = limits_of(server)
        self.pool = UpstreamPool(target_of(server), limits)
        self.streams = UpstreamPool(target_of(server), replace(limits, max_connections=_STREAMS))
        self._credentials = tuple(credentials)
        self._total_s = server.timeouts.total_s
        is_bridged = server.type == "internal" and server.transport == "stdio"
        self._token_file = state_dir / "bridge" / f"{server.name}.token" if is_bridged else None
        self._token: bytes | None = None

    def present(self, credentials: Sequence[Header]) -> None:
        """Add these to every request from now on."""
        self._credentials = tuple(credentials)

    def hiding(self, credentials: Sequence[Header]) -> Hidden:
        """Return what no row may show once these are presented: they, and those that are on their way meanwhile."""
        return Hidden(value.decode("latin-1") for _, value in (*self._credentials, *credentials))

    def credentials(self, principal: tuple[str, str, str]) -> tuple[Header, ...]:
        """Headers that the proxy adds to every request on this road; a bridge is told for whom, but not who it is."""
        if self._token_file is None:
            return self._credentials
        if self._token is None:
            self._token = self._read_token(self._token_file)
        whom = sha256("\n".join(principal).encode()).hexdigest().encode()
        return (*self._credentials, (BRIDGE_HEADER, self._token), (PRINCIPAL_HEADER, whom))

    def _read_token(self, path: Path) -> bytes:
        try:
            return path.read_bytes().strip()
        except OSError as error:
            raise BridgeTokenMissingError(
                f"the server's bridge is not up yet ({path.name}: {error.strerror})"
            ) from error

    async def retire(self) -> None:
        """Close once the requests under way have ended, or when they have had their whole time; streams end at once."""
        await self.streams.aclose()
        deadline = monotonic() + self._total_s
        while self.pool.stats().open > self.pool.stats().idle and monotonic() < deadline:  # noqa: ASYNC110 -- the pool tells nobody when a request ends
            await asyncio.sleep(_RETIRE_POLL_S)
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections of this road."""
        await self.streams.aclose()
        await self.pool.aclose()
