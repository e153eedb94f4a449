"""Which protocol era a stdio server speaks, found out by asking it (S:basic/versioning)."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast

from proxy.bridge.frames import JsonObject
from proxy.bridge.link import Link, ask
from proxy.bridge.replies import Failure
from proxy.wire.era import CAPABILITIES_KEY, LEGACY_VERSIONS, MODERN_VERSIONS, UNSUPPORTED_VERSION, VERSION_KEY

_CLIENT_INFO: Final = {"name": "postern-bridge", "version": "1"}


@dataclass(frozen=True, slots=True)
class NotModern:
    """The server does not speak the modern era; `supported` is what it named instead, if it named any."""

    supported: tuple[str, ...]


Era: TypeAlias = Literal["modern"] | NotModern


async def probe_modern(link: Link, limit_s: float) -> Era | Failure | None:
    """Ask `server/discover`. None when it did not answer, Failure when it died over it."""
    meta: JsonObject = {VERSION_KEY: MODERN_VERSIONS[-1], CAPABILITIES_KEY: {}}
    request: JsonObject = {"jsonrpc": "2.0", "id": "probe", "method": "server/discover", "params": {"_meta": meta}}
    answer = await ask(link, request, limit_s)
    if answer is None or isinstance(answer, Failure):
        return answer
    named = _versions_named(answer)
    return "modern" if any(version in MODERN_VERSIONS for version in named) else NotModern(named)


async def probe_legacy(link: Link, limit_s: float) -> NotModern | None:
    """Ask `initialize` of a fresh child; None when it does not speak that either."""
    params: JsonObject = {"protocolVersion": LEGACY_VERSIONS[-1], "capabilities": {}, "clientInfo": _CLIENT_INFO}
    answer = await ask(link, {"jsonrpc": "2.0", "id": "probe", "method": "initialize", "params": params}, limit_s)
    result: object = answer.get("result") if isinstance(answer, dict) else None
    version: object = cast("JsonObject", result).get("protocolVersion") if isinstance(result, dict) else None
    return NotModern((version,)) if isinstance(version, str) else None


def _versions_named(answer: JsonObject) -> tuple[str, ...]:
    """`supportedVersions` of a discovery, or `supported` of a -32022."""
    result: object = answer.get("result")
    if isinstance(result, dict):
        return _strings(cast("JsonObject", result).get("supportedVersions"))
    error = cast("JsonObject", answer.get("error"))
    data: object = error.get("data")
    if error.get("code") != UNSUPPORTED_VERSION or not isinstance(data, dict):
        return ()
    return _strings(cast("JsonObject", data).get("supported"))


def _strings(value: object) -> tuple[str, ...]:
    entries = cast("list[object]", value) if isinstance(value, list) else []
    return tuple(entry for entry in entries if isinstance(entry, str))
