"""Which of the two protocols a request speaks: with a handshake and sessions, or stateless (research/mcp.md §1.3)."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, cast

from msgspec import Struct

from proxy import errors
from proxy.wire.fault import WireFault
from proxy.wire.fields import index_of
from proxy.wire.jsonrpc import Envelope, EnvelopeKind

LEGACY_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN_VERSIONS = ("2026-07-28",)

VERSION_HEADER = b"mcp-protocol-version"
VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities"

UNSUPPORTED_VERSION = -32022
_SHOWN_CHARS = 64


class Era(StrEnum):
    LEGACY = "legacy"
    MODERN = "modern"


class Classification(Struct, frozen=True, gc=False):
    """`version` is that of the header; None for a legacy request without one (initialize, or 2025-03-26 by default)."""

    era: Era
    version: str | None


def classify(
    headers: Sequence[tuple[bytes, bytes]],
    envelope: Envelope | None,
    *,
    modern_versions: Sequence[str] = MODERN_VERSIONS,
    spoken: Sequence[str] = (),
) -> Classification | WireFault:
    """Return the era of a request, header names in lower case; `envelope` is None for GET and DELETE.

    The header decides: absent or a handshake version is legacy, anything else modern. A body that claims a version
    which its header does not is refused, so that nobody is authorized in one era and served in the other. The order
    of the modern checks is that of the reference server: `_meta`, header against body, version supported. Who asks for
    a version that nobody knows is told which are `spoken` by this server, where that is known, else which we let pass.
    """
    values = index_of(headers).get(VERSION_HEADER, ())
    rpc_id = envelope.id if envelope is not None else None
    if len(values) > 1:
        return _mismatch("wire.header_duplicate", "MCP-Protocol-Version header appears more than once", rpc_id)
    version = values[0].strip(b" \t").decode("latin-1") if values else None
    if version is None or version in LEGACY_VERSIONS:
        return _legacy(version, envelope)
    fault = _modern_fault(version, envelope)
    if fault is None and version not in modern_versions:
        passing = [each for each in spoken if each in modern_versions or each in LEGACY_VERSIONS]
        fault = _unsupported(version, passing or modern_versions, rpc_id)
    return fault or Classification(Era.MODERN, version)


def without_removed(envelope: Envelope, era: Era) -> Envelope:
    """Return the message without what the modern protocol has removed and tells receivers to ignore: `params.task`.

    Nobody behind us can then take it for a wish that was never authorized.
    """
    params = envelope.params
    if era is Era.LEGACY or params is None or envelope.method != "tools/call" or "task" not in params:
        return envelope
    return envelope.with_params({name: value for name, value in params.items() if name != "task"})


def _legacy(version: str | None, envelope: Envelope | None) -> Classification | WireFault:
    if envelope is not None and VERSION_KEY in _meta(envelope):
        found = "is missing" if version is None else "names another"
        message = f"the request's _meta claims a protocol version and the MCP-Protocol-Version header {found}"
        return _mismatch("wire.era", message, envelope.id)
    return Classification(Era.LEGACY, version)


def _modern_fault(version: str, envelope: Envelope | None) -> WireFault | None:
    if envelope is None:
        return None
    if envelope.kind is EnvelopeKind.RESPONSE:
        message = "the 2026-07-28 protocol does not let clients post responses"
        return WireFault("wire.response", 400, errors.INVALID_REQUEST, message, envelope.id)
    meta = _meta(envelope)
    if envelope.kind is EnvelopeKind.REQUEST and (missing := _missing(meta)):
        message = f"params._meta lacks {missing}"
        return WireFault("wire.meta", 400, errors.INVALID_PARAMS, message, envelope.id)
    if VERSION_KEY in meta and meta[VERSION_KEY] != version:
        message = "MCP-Protocol-Version header does not match the request's _meta"
        return _mismatch("wire.header_mismatch", message, envelope.id)
    return None


def _meta(envelope: Envelope) -> dict[str, Any]:
    meta: object = envelope.params.get("_meta") if envelope.params is not None else None
    return cast("dict[str, Any]", meta) if isinstance(meta, dict) else {}


def _missing(meta: dict[str, Any]) -> str:
    missing = [key for key in (VERSION_KEY, CAPABILITIES_KEY) if key not in meta]
    if not missing and not isinstance(meta[CAPABILITIES_KEY], dict):
        return f"{CAPABILITIES_KEY} as an object"
    return " and ".join(missing)


def _mismatch(code: str, message: str, rpc_id: int | str | None) -> WireFault:
    return WireFault(code, 400, errors.HEADER_MISMATCH, message, rpc_id)


def _unsupported(version: str, supported: Sequence[str], rpc_id: int | str | None) -> WireFault:
    data: dict[str, object] = {"supported": list(supported), "requested": version[:_SHOWN_CHARS]}
    return WireFault("wire.unsupported_version", 400, UNSUPPORTED_VERSION, "Unsupported protocol version", rpc_id, data)
