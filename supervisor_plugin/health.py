"""Whether a server really answers: MCP exchanges on one long-lived session, and the proxy's own health address."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import httpx2

from supervisor_plugin.exchange import Answer, Exchange, ProbeError

MODERN_VERSION, LEGACY_VERSION = "2026-07-28", "2025-11-25"
UNSUPPORTED_VERSION = -32022
META = "io.modelcontextprotocol/"
CLIENT = {"name": "postern-health", "version": "1"}
COUNT_TOOLS_EVERY = 6
MAX_PAGES = 100
# What says "try again later" or "not you" says nothing about the era of the protocol.
NO_ERA = frozenset({401, 403, 407, 408, 421, 429})

Headers = Callable[[], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Report:
    """What a passed check found out."""

    latency_ms: float
    era: str = ""
    protocol_versions: tuple[str, ...] = ()
    tool_count: int | None = None
    note: str = ""


class Probe(Protocol):
    """A check that can be repeated; `check` raises ProbeError with the reason when it does not pass."""

    async def check(self) -> Report: ...
    async def close(self) -> None: ...


def make_client(url: str, timeout_s: float) -> httpx2.AsyncClient:
    """Return a client for one server: no proxy of the environment, no redirects, two connections at most."""
    limits = httpx2.Limits(max_connections=2, max_keepalive_connections=1)
    # Reading the system's certificates takes half a second; without TLS there is nothing to verify.
    verify = not url.startswith("http://")
    return httpx2.AsyncClient(timeout=timeout_s, limits=limits, trust_env=False, follow_redirects=False, verify=verify)


class McpProbe:
    """Speaks the modern protocol first, else a legacy session that stays open between checks."""

    def __init__(self, url: str, timeout_s: float, headers: Headers = dict) -> None:
        self._timeout_s, self._headers = timeout_s, headers
        self._client = make_client(url, timeout_s)
        self._exchange = Exchange(self._client, url)
        self._era: _Era | None = None
        self._legacy_first = False
        self._checks = 0
        self._tools: int | None = None

    async def check(self) -> Report:
        """Exchange messages within the time limit."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                versions = await self._talk()
        except TimeoutError as error:
            self._take_turns()
            raise ProbeError(f"no answer within {self._timeout_s:g} s") from error
        assert self._era is not None  # noqa: S101 - _talk has set it, or raised
        return Report((time.monotonic() - started) * 1000, self._era.name, versions, self._tools)

    async def close(self) -> None:
        """End the session and the connection."""
        if self._era is not None:
            with contextlib.suppress(httpx2.HTTPError, TimeoutError, ProbeError):
                async with asyncio.timeout(1.0):
                    await self._era.end()
        await self._client.aclose()

    async def _talk(self) -> tuple[str, ...]:
        era = self._era or await self._find_era()
        try:
            versions = await era.greet()
        except _SessionLostError:
            era = _Legacy(self._exchange, self._headers)
            versions = await era.greet()
        self._era = era
        if self._checks % COUNT_TOOLS_EVERY == 0:
            self._tools = await _count_tools(era)
        self._checks += 1
        return versions

    def _take_turns(self) -> None:
        # A server of the one era may hang or break on the first word of the other: try the other one next time.
        self._legacy_first = self._era is None and not self._legacy_first

    async def _find_era(self) -> "_Era":
        if self._legacy_first:
            return _Legacy(self._exchange, self._headers)
        modern = _Modern(self._exchange, self._headers)
        answer = await modern.discover(MODERN_VERSION)
        if answer.status in NO_ERA or answer.status >= 500:
            if answer.status >= 500:
                self._take_turns()
            raise ProbeError(f"server/discover: {answer.describe()}")
        if answer.result is not None or (answer.error_code == UNSUPPORTED_VERSION and modern.agree(answer)):
            return modern
        return _Legacy(self._exchange, self._headers)


class _SessionLostError(Exception):
    """A legacy server no longer knows our session."""


class _Era(Protocol):
    name: str
    has_tools: bool

    async def greet(self) -> tuple[str, ...]: ...
    async def ask(self, method: str, params: Mapping[str, Any]) -> Answer: ...
    async def end(self) -> None: ...


class _Modern:
    """2026-07-28: no session; every request says who asks and by which version."""

    name = "modern"

    def __init__(self, exchange: Exchange, headers: Headers) -> None:
        self._exchange, self._headers = exchange, headers
        self._version = MODERN_VERSION
        self.has_tools = True

    def agree(self, refusal: Answer) -> bool:
        """Take the newest modern version that the server names in its refusal."""
        data: Any = (refusal.error or {}).get("data")
        supported: Any = cast("dict[str, Any]", data).get("supported") if isinstance(data, dict) else None
        named = [str(version) for version in supported or () if str(version) >= MODERN_VERSION]
        if named:
            self._version = max(named)
        return bool(named)

    async def discover(self, version: str) -> Answer:
        self._version = version
        return await self.ask("server/discover", {})

    async def greet(self) -> tuple[str, ...]:
        answer = await self.ask("server/discover", {})
        if answer.result is None:
            raise ProbeError(f"server/discover: {answer.describe()}")
        self.has_tools = "tools" in (answer.result.get("capabilities") or {})
        return tuple(str(version) for version in answer.result.get("supportedVersions") or ())

    async def ask(self, method: str, params: Mapping[str, Any]) -> Answer:
        meta = {f"{META}protocolVersion": self._version, f"{META}clientInfo": CLIENT, f"{META}clientCapabilities": {}}
        headers = {**self._headers(), "MCP-Protocol-Version": self._version, "Mcp-Method": method}
        return await self._exchange.request(method, {**params, "_meta": meta}, headers)

    async def end(self) -> None:
        """Nothing to end."""


class _Legacy:
    """2025-03-26 to 2025-11-25: `initialize` once, then `ping` on the same session."""

    name = "legacy"

    def __init__(self, exchange: Exchange, headers: Headers) -> None:
        self._exchange, self._headers = exchange, headers
        self._session: str | None = None
        self._version = ""
        self.has_tools = True

    async def greet(self) -> tuple[str, ...]:
        if not self._version:
            await self._initialize()
            return (self._version,)
        answer = await self.ask("ping", {})
        if answer.status in (400, 404) and self._session is not None:
            raise _SessionLostError
        if answer.result is None:
            raise ProbeError(f"ping: {answer.describe()}")
        return (self._version,)

    async def _initialize(self) -> None:
        params = {"protocolVersion": LEGACY_VERSION, "capabilities": {}, "clientInfo": CLIENT}
        answer = await self._exchange.request("initialize", params, self._headers())
        if answer.result is None:
            raise ProbeError(f"initialize: {answer.describe()}")
        version = answer.result.get("protocolVersion")
        if not isinstance(version, str) or not version:
            raise ProbeError("initialize: its answer names no protocol version")
        self._session, self._version = answer.session, version
        self.has_tools = "tools" in (answer.result.get("capabilities") or {})
        await self._exchange.notify("notifications/initialized", self._with_session())

    async def ask(self, method: str, params: Mapping[str, Any]) -> Answer:
        return await self._exchange.request(method, params, self._with_session())

    def _with_session(self) -> dict[str, str]:
        session = {"Mcp-Session-Id": self._session} if self._session else {}
        return {**self._headers(), **session, "MCP-Protocol-Version": self._version}

    async def end(self) -> None:
        if self._session:
            await self._exchange.end_session(self._with_session())


async def _count_tools(era: _Era) -> int | None:
    if not era.has_tools:
        return 0
    count, cursor = 0, None
    for _ in range(MAX_PAGES):
        answer = await era.ask("tools/list", {"cursor": cursor} if cursor else {})
        tools = answer.result.get("tools") if answer.result is not None else None
        if answer.result is None or not isinstance(tools, list):
            raise ProbeError(f"tools/list: {answer.describe()}")
        count += len(tools)  # pyright: ignore[reportUnknownArgumentType] - any list counts
        cursor = answer.result.get("nextCursor")
        if not cursor:
            return count
    return count


class ProxyProbe:
    """The proxy is up when it answers at all; whether it can serve (its database, for one) is said by `/readyz`."""

    def __init__(self, base_url: str, timeout_s: float) -> None:
        self._base_url, self._timeout_s = base_url, timeout_s
        self._client = make_client(base_url, timeout_s)

    async def check(self) -> Report:
        """Ask both addresses."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                alive = await self._client.get(f"{self._base_url}/healthz")
                ready = await self._client.get(f"{self._base_url}/readyz")
        except TimeoutError as error:
            raise ProbeError(f"no answer within {self._timeout_s:g} s") from error
        except httpx2.ConnectError as error:
            raise ProbeError("nothing accepts connections") from error
        except httpx2.HTTPError as error:
            raise ProbeError(f"the connection failed: {type(error).__name__}") from error
        if alive.status_code != 200:
            raise ProbeError(f"/healthz: HTTP {alive.status_code}")
        return Report((time.monotonic() - started) * 1000, note=_said(ready))

    async def close(self) -> None:
        await self._client.aclose()


def _said(ready: httpx2.Response) -> str:
    """Return what `/readyz` has to say that an operator should know; nothing if all is well."""
    try:
        said = ready.json()
        if ready.status_code != 200:
            return f"not ready: {said['reason']}"[:200]
        registry, unwell = said["registry"], said.get("unwell", ())
        notes = [] if registry == "current" else [f"registry: {registry}"]
        notes += [f"background jobs that do not run: {', '.join(unwell)}; see its log"] if unwell else []
    except (ValueError, KeyError, TypeError, AttributeError):
        return "" if ready.status_code == 200 else f"not ready: {ready.text[:200]}"
    return "; ".join(notes)[:200]
