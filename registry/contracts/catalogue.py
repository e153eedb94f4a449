"""Everything that a server offers now, asked for over MCP in whichever era it speaks. Sans-IO: a `Transport` does it.

Raw JSON and no typed models: those drop members that they do not know, which is where a change could hide.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from registry.contracts.definitions import KINDS, Definition, Kind, name_of, pinned

MODERN, LEGACY = "2026-07-28", "2025-11-25"
MAX_PAGES = 200
MAX_ITEMS = 20_000
MAX_BYTES = 16_777_216
_META = "io.modelcontextprotocol/"
_CLIENT = {"name": "postern-contracts", "version": "1"}
_UNSUPPORTED_VERSION, _NO_METHOD = -32022, -32601
_NO_ERA = frozenset({401, 403, 407, 408, 421, 429})
_LISTS: Mapping[Kind, tuple[str, str, str]] = {
    "tools": ("tools/list", "tools", "tools"),
    "prompts": ("prompts/list", "prompts", "prompts"),
    "resources": ("resources/list", "resources", "resources"),
    "templates": ("resources/templates/list", "resourceTemplates", "resources"),
}


class CatalogueError(Exception):
    """The server did not say what it offers; the message says what happened."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one request: HTTP status, session id where one was given, the JSON-RPC message where one came.

    `size` counts its bytes, so that a server cannot fill the memory page by page.
    """

    status: int
    message: Mapping[str, Any] | None = None
    session: str | None = None
    size: int = 0


class Transport(Protocol):
    """One server's endpoint, with the credentials that it wants. Raises `CatalogueError` where it cannot be asked."""

    async def send(self, verb: str, headers: Mapping[str, str], message: Mapping[str, Any] | None) -> Reply:
        """Send one message (POST) or none (DELETE), return the answer to its id."""
        ...


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What was offered, already reduced to what is pinned. `duplicates` names what was listed twice."""

    items: Mapping[Kind, Mapping[str, Definition]] = field(default_factory=dict[Kind, Mapping[str, Definition]])
    instructions: str | None = None
    server: str = ""
    protocol: str = ""
    duplicates: tuple[str, ...] = ()

    def of(self, kind: Kind) -> Mapping[str, Definition]:
        """Return the items of one kind."""
        return self.items.get(kind, {})


async def read_catalogue(transport: Transport) -> Catalogue:
    """Ask for everything; raise `CatalogueError`."""
    speaker = await _greet(transport)
    try:
        items: dict[Kind, Mapping[str, Definition]] = {}
        duplicates: list[str] = []
        for kind in KINDS:
            items[kind] = await _read_list(speaker, kind, duplicates)
        return Catalogue(items, speaker.instructions, speaker.server, speaker.protocol, tuple(duplicates))
    finally:
        await speaker.end()


async def _read_list(speaker: "_Speaker", kind: Kind, duplicates: list[str]) -> dict[str, Definition]:
    method, member, capability = _LISTS[kind]
    found: dict[str, Definition] = {}
    if capability not in speaker.capabilities:
        return found
    cursor: object = None
    for _ in range(MAX_PAGES):
        reply = await speaker.ask(method, {"cursor": cursor} if cursor else {})
        if kind != "tools" and _error(reply).get("code") == _NO_METHOD:
            return found
        result = _result(reply, method)
        _gather(kind, result.get(member), found, duplicates)
        cursor = result.get("nextCursor")
        if not cursor:
            return found
    raise CatalogueError(f"{method} has more than {MAX_PAGES} pages")


def _gather(kind: Kind, listed: object, found: dict[str, Definition], duplicates: list[str]) -> None:
    if not isinstance(listed, list):
        raise CatalogueError(f"{_LISTS[kind][0]} answered without a list")
    for item in cast("list[object]", listed):
        name = name_of(kind, item)
        if name is None:
            raise CatalogueError(f"{_LISTS[kind][0]} lists something without a name")
        if name in found:
            duplicates.append(name)
        found[name] = pinned(kind, cast("dict[str, object]", item))
    if len(found) > MAX_ITEMS:
        raise CatalogueError(f"{_LISTS[kind][0]} lists more than {MAX_ITEMS} items")


class _Speaker:
    """A greeted server: how to ask it further. The session is the legacy era's, None in the modern one."""

    def __init__(self, transport: Transport, protocol: str, greeting: Mapping[str, Any], session: str | None) -> None:
        self._transport = transport
        self._session = session
        self.protocol = protocol
        self.capabilities = _object(greeting.get("capabilities"))
        said = greeting.get("instructions")
        self.instructions = said if isinstance(said, str) and said else None
        named = greeting.get("serverInfo") or _object(greeting.get("_meta")).get(f"{_META}serverInfo")
        self.server = " ".join(str(_object(named)[key]) for key in ("name", "version") if key in _object(named))[:200]
        self._number = 1
        self._bytes = 0

    async def ask(self, method: str, params: Mapping[str, Any]) -> Reply:
        self._number += 1
        if self.protocol >= MODERN:
            headers = _modern_headers(self.protocol, method)
            reply = await self._transport.send("POST", headers, _modern(self.protocol, method, params, self._number))
        else:
            reply = await self._transport.send("POST", self._headers(), _request(method, params, self._number))
        self._bytes += reply.size
        if self._bytes > MAX_BYTES:
            raise CatalogueError(f"it offers more than {MAX_BYTES:,} bytes of definitions")
        return reply

    async def opened(self) -> None:
        """Tell a legacy server that the greeting is over."""
        await self._transport.send("POST", self._headers(), {"jsonrpc": "2.0", "method": "notifications/initialized"})

    async def end(self) -> None:
        """End the session where there is one; a server that will not is left to its own timeout."""
        if self._session is None:
            return
        try:
            await self._transport.send("DELETE", self._headers(), None)
        except CatalogueError:
            return

    def _headers(self) -> dict[str, str]:
        session = {"mcp-session-id": self._session} if self._session is not None else {}
        return {**session, "mcp-protocol-version": self.protocol}


async def _greet(transport: Transport) -> _Speaker:
    version = MODERN
    reply = await _discover(transport, version)
    if _error(reply).get("code") == _UNSUPPORTED_VERSION:
        said: object = _object(_error(reply).get("data")).get("supported")
        supported = cast("list[object]", said) if isinstance(said, list) else []
        known = [each for each in supported if isinstance(each, str) and each >= MODERN]
        if known:
            version = max(known)
            reply = await _discover(transport, version)
    if reply.status in _NO_ERA or reply.status >= 500:
        raise CatalogueError(f"server/discover: {_described(reply)}")
    if reply.message is not None and "result" in reply.message:
        return _Speaker(transport, version, _result(reply, "server/discover"), None)
    return await _initialize(transport)


async def _discover(transport: Transport, version: str) -> Reply:
    method = "server/discover"
    return await transport.send("POST", _modern_headers(version, method), _modern(version, method, {}, 1))


async def _initialize(transport: Transport) -> _Speaker:
    params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": _CLIENT}
    reply = await transport.send("POST", {}, _request("initialize", params, 1))
    greeting = _result(reply, "initialize")
    version = greeting.get("protocolVersion")
    if not isinstance(version, str) or not version or version >= MODERN:
        raise CatalogueError("initialize: its answer names no protocol version of its era")
    speaker = _Speaker(transport, version, greeting, reply.session)
    await speaker.opened()
    return speaker


def _request(method: str, params: Mapping[str, Any], number: int) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": dict(params)}


def _modern(version: str, method: str, params: Mapping[str, Any], number: int) -> dict[str, Any]:
    meta = {f"{_META}protocolVersion": version, f"{_META}clientInfo": _CLIENT, f"{_META}clientCapabilities": {}}
    return _request(method, {**params, "_meta": meta}, number)


def _modern_headers(version: str, method: str) -> dict[str, str]:
    return {"mcp-protocol-version": version, "mcp-method": method}


def _result(reply: Reply, method: str) -> Mapping[str, Any]:
    result = reply.message.get("result") if reply.message is not None else None
    if not isinstance(result, dict):
        raise CatalogueError(f"{method}: {_described(reply)}")
    return cast("dict[str, Any]", result)


def _error(reply: Reply) -> Mapping[str, Any]:
    return _object(reply.message.get("error")) if reply.message is not None else {}


def _described(reply: Reply) -> str:
    error = _error(reply)
    said = f", error {error.get('code')}: {str(error.get('message'))[:200]}" if error else ""
    return f"HTTP {reply.status}{said}"


def _object(value: object) -> Mapping[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
