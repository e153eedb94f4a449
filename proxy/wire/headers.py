"""Headers: those that mirror the body are checked against it, and one table says which may pass, either way.

What the table does not name is dropped: hop-by-hop headers and those that `Connection` names, cookies, credentials,
forwarding and identity headers, Host, lengths and encodings. Ids of sessions and events are not in it, because ours and
the upstream's are never the same.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

from msgspec import Struct

from proxy import errors
from proxy.wire.era import VERSION_HEADER, Era
from proxy.wire.fault import WireFault
from proxy.wire.fields import Header, Index, fact_of, index_of
from proxy.wire.header_value import decode_value
from proxy.wire.jsonrpc import Envelope, EnvelopeKind
from proxy.wire.params import PREFIX, ParamHeader, param_mismatch

_NOTHING: frozenset[bytes] = frozenset()
_PLAIN_JSON = (b"application/json",)
_KEEP_ALIVE = (b"keep-alive",)

METHOD_HEADER = b"mcp-method"
NAME_HEADER = b"mcp-name"
_MIRRORS = frozenset({VERSION_HEADER, METHOD_HEADER, NAME_HEADER})

NAMED_BY = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}
"""The parameter that `Mcp-Name` mirrors, by method."""

_REQUEST_COMMON = frozenset({b"accept", b"user-agent", b"traceparent", b"tracestate", b"baggage", VERSION_HEADER})
REQUEST_HEADERS = {
    Era.LEGACY: _REQUEST_COMMON,
    Era.MODERN: _REQUEST_COMMON | {METHOD_HEADER, NAME_HEADER},
}
RESPONSE_HEADERS = frozenset({b"content-type", b"retry-after", b"allow", b"x-accel-buffering", VERSION_HEADER})

_JSON = re.compile(rb'[ \t]*application/json[ \t]*(;[ \t]*charset="?utf-8"?[ \t]*)?', re.IGNORECASE)
_UTF8 = re.compile(rb';[ \t]*charset="?utf-8"?[ \t]*\Z', re.IGNORECASE)
_RESTRICTING = frozenset({b"no-store", b"no-cache", b"no-transform", b"private", b"must-revalidate", b"max-age=0"})


class Mirrors(Struct, frozen=True, gc=False):
    """What a head says of its body. `fault`: of type, coding or connection; a name that cannot be compared is None."""

    fault: WireFault | None
    methods: tuple[str, ...]
    names: tuple[str | None, ...]
    has_params: bool


def check_headers(
    headers: Sequence[Header], envelope: Envelope, era: Era, declared: Sequence[ParamHeader] = ()
) -> WireFault | None:
    """Return what is wrong between the headers of a POST, names in lower case, and its body; None if nothing is.

    `declared` comes from `declared_params` of the schema of the tool that is called.
    """
    mirrors = fact_of(headers, check_headers, _read_mirrors)
    if mirrors.fault is not None:
        return replace(mirrors.fault, id=envelope.id)
    if era is Era.LEGACY:
        return None
    wrong = _method_fault(mirrors, envelope) or _name_fault(mirrors, envelope)
    return wrong or (check_params(headers, envelope, declared) if declared or mirrors.has_params else None)


def check_params(headers: Sequence[Header], envelope: Envelope, declared: Sequence[ParamHeader]) -> WireFault | None:
    """Return what is wrong between `mcp-param-*` headers and the arguments of a modern call; None if nothing is."""
    arguments: object = envelope.params.get("arguments") if envelope.params is not None else None
    known = cast("dict[str, Any]", arguments) if isinstance(arguments, dict) else {}
    message = param_mismatch(headers, known, declared)
    return _fault("wire.header_mismatch", message, envelope.id) if message is not None else None


def to_upstream(headers: Sequence[Header], era: Era) -> list[Header]:
    """Return the request headers that may go upstream; the content type is ours, as the bytes are."""
    return fact_of(headers, era, _passing[era])


def _pass(headers: Sequence[Header], era: Era) -> list[Header]:
    passing = REQUEST_HEADERS[era]
    nominated = _nominated(headers)
    kept: list[Header] = []
    for name, value in headers:
        if name in nominated:
            continue
        if name in passing or (era is Era.MODERN and name.startswith(PREFIX)):
            kept.append((name, value))
        elif name == b"content-type":
            kept.append((b"content-type", b"application/json"))
    return kept


_passing = {era: partial(_pass, era=era) for era in Era}


def to_client(headers: Sequence[Header]) -> tuple[Header, ...]:
    """Return the response headers that may come back; caching only where it restricts."""
    return fact_of(headers, to_client, _back)


def _back(headers: Sequence[Header]) -> tuple[Header, ...]:
    """Pass the content type that the answer was read by, which is the first, and no second one."""
    nominated = _nominated(headers)
    read_by = next((place for place, (name, _) in enumerate(headers) if name == b"content-type"), None)
    return tuple(
        (name, _in_utf8(value) if name == b"content-type" else value)
        for place, (name, value) in enumerate(headers)
        if (name in RESPONSE_HEADERS or (name == b"cache-control" and _restricts(value)))
        and name not in nominated
        and (name != b"content-type" or place == read_by)
    )


def _in_utf8(content_type: bytes) -> bytes:
    """Return a media type; without its parameters where they name another encoding than the one that was read."""
    named = content_type.lower().count(b"charset")
    is_known = not named or (named == 1 and _UTF8.search(content_type) is not None)
    return content_type if is_known else content_type.partition(b";")[0].strip()


def _nominated(headers: Sequence[Header]) -> frozenset[bytes]:
    """Names that `Connection` declares hop-by-hop (RFC 9110 §7.6.1)."""
    values = index_of(headers).get(b"connection")
    if values is None:
        return _NOTHING
    return _options(values)


def _options(values: Sequence[bytes]) -> frozenset[bytes]:
    return frozenset(token.strip().lower() for value in values for token in value.split(b","))


def _restricts(value: bytes) -> bool:
    return all(token.strip().lower() in _RESTRICTING for token in value.split(b","))


def _read_mirrors(headers: Sequence[Header]) -> Mirrors:
    found = index_of(headers)
    return Mirrors(
        fault=_content_fault(found) or _connection_fault(found),
        methods=tuple(value.strip(b" \t").decode("latin-1") for value in found.get(METHOD_HEADER, ())),
        names=tuple(decode_value(value) for value in found.get(NAME_HEADER, ())),
        has_params=any(name.startswith(PREFIX) for name in found),
    )


def _content_fault(found: Index) -> WireFault | None:
    types = found.get(b"content-type", ())
    if types != _PLAIN_JSON and (len(types) != 1 or _JSON.fullmatch(types[0]) is None):
        message = "the Content-Type of a message is application/json"
        return WireFault("wire.content_type", 415, errors.INVALID_REQUEST, message)
    if any(value.strip().lower() != b"identity" for value in found.get(b"content-encoding", ())):
        message = "a compressed body is not accepted"
        return WireFault("wire.content_encoding", 415, errors.INVALID_REQUEST, message)
    return None


def _connection_fault(found: Index) -> WireFault | None:
    """Refuse what would be checked here and, as hop-by-hop, be kept from the server: it would read another request."""
    values = found.get(b"connection", _KEEP_ALIVE)
    if values == _KEEP_ALIVE or not any(name in _MIRRORS or name.startswith(PREFIX) for name in _options(values)):
        return None
    return _fault("wire.header_mismatch", "the Connection header names a header that the server needs", None)


def _method_fault(mirrors: Mirrors, envelope: Envelope) -> WireFault | None:
    if not mirrors.methods and envelope.kind is EnvelopeKind.NOTIFICATION:
        return None
    return _mirror_fault("Mcp-Method", mirrors.methods, envelope.method, envelope.id)


def _name_fault(mirrors: Mirrors, envelope: Envelope) -> WireFault | None:
    key = NAMED_BY.get(envelope.method or "")
    named = envelope.params.get(key) if key is not None and envelope.params is not None else None
    if named is None:
        message = "Mcp-Name header has no counterpart in the request body"
        return _fault("wire.header_mismatch", message, envelope.id) if mirrors.names else None
    return _mirror_fault("Mcp-Name", mirrors.names, named, envelope.id)


def _mirror_fault(
    header: str, values: Sequence[str | None], expected: object, rpc_id: int | str | None
) -> WireFault | None:
    if not values:
        return _fault("wire.header_missing", f"{header} header is missing", rpc_id)
    if len(values) > 1:
        return _fault("wire.header_duplicate", f"{header} header appears more than once", rpc_id)
    if values[0] is None or values[0] != expected:
        return _fault("wire.header_mismatch", f"{header} header does not match the request body", rpc_id)
    return None


def _fault(code: str, message: str, rpc_id: int | str | None) -> WireFault:
    return WireFault(code, 400, errors.HEADER_MISMATCH, message, rpc_id)
