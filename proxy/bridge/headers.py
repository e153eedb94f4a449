"""The HTTP side of a 2026-07-28 request against its body (S:streamable-http, Server Validation). Pure.

stdio has no headers, so for a stdio server this check is the bridge's duty. It gives the verdicts of the official SDK
(`mcp.shared.inbound`; a test compares the two) without its import, which costs a bridge 40 MB and more than a second.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Final, cast

from proxy.bridge.frames import JsonObject
from proxy.bridge.replies import Failure
from proxy.errors import HEADER_MISMATCH, INVALID_PARAMS

LEGACY_VERSIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN_VERSIONS: Final = ("2026-07-28",)
UNSUPPORTED_VERSION: Final = -32022
VERSION_HEADER: Final = "mcp-protocol-version"
METHOD_HEADER: Final = "mcp-method"
NAME_HEADER: Final = "mcp-name"
VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_KEY: Final = "io.modelcontextprotocol/clientCapabilities"
NAME_PARAMETER: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}

_SENTINEL: Final = re.compile(r"=\?base64\?(?P<payload>.*)\?=")


class RequestHeaders:
    """Header lines of a request, names in lower case, values without the white space around them.

    RFC 9110 §5.5 wants it taken off before a value is looked at; httptools leaves it at the end.
    """

    def __init__(self, lines: Iterable[tuple[bytes, bytes]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in lines:
            self._values.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1").strip(" \t"))

    def get(self, name: str) -> str | None:
        """Return the value, of the first line if there are several."""
        values = self._values.get(name)
        return values[0] if values else None

    def lines(self, name: str) -> list[str]:
        return self._values.get(name, [])

    def names(self) -> Iterable[str]:
        return self._values


def is_modern(headers: RequestHeaders) -> bool:
    """Tell the era of a request by its version header; no header is the legacy era (2025-03-26 has none)."""
    version = headers.get(VERSION_HEADER)
    return version is not None and version not in LEGACY_VERSIONS


def decode_value(text: str | None) -> str | None:
    """Undo the `=?base64?…?=` wrapping of a header value; None when there is no value or the wrapping is broken."""
    if text is None:
        return None
    wrapped = _SENTINEL.fullmatch(text)
    if wrapped is None:
        return text
    payload = wrapped["payload"]
    try:
        raw = base64.b64decode(payload, validate=True)
        is_canonical = base64.b64encode(raw).decode("ascii") == payload
        return raw.decode("utf-8") if is_canonical else None
    except (binascii.Error, ValueError):
        return None


def refuse_version(requested: str) -> Failure | None:
    """-32022 with the versions of the modern era, when this is none of them."""
    if requested in MODERN_VERSIONS:
        return None
    return unsupported_version(MODERN_VERSIONS, requested)


def unsupported_version(supported: Iterable[str], requested: str) -> Failure:
    data = {"supported": list(supported), "requested": requested}
    return Failure(400, UNSUPPORTED_VERSION, "Unsupported protocol version", data)


def refuse_request(body: JsonObject, headers: RequestHeaders) -> Failure | None:
    """Name the first thing wrong with a modern request: duplicate header, `_meta`, header against body, version."""
    for name in (VERSION_HEADER, METHOD_HEADER, NAME_HEADER):
        if len(headers.lines(name)) > 1:
            return _mismatch(f"{name} header appears more than once")
    meta = envelope_of(body)
    missing = [key for key in (VERSION_KEY, CAPABILITIES_KEY) if meta is None or key not in meta]
    if meta is None or missing:
        return Failure(400, INVALID_PARAMS, f"params._meta is missing the required key(s): {', '.join(missing)}")
    version: object = meta[VERSION_KEY]
    if headers.get(VERSION_HEADER) is None or headers.get(VERSION_HEADER) != version:
        return _mismatch(f"{VERSION_HEADER} header does not match the version in params._meta")
    if headers.get(METHOD_HEADER) != body["method"]:
        return _mismatch(f"{METHOD_HEADER} header does not match the method of the body")
    return _refuse_name(body, headers) or refuse_version(cast("str", version))


def envelope_of(body: JsonObject) -> JsonObject | None:
    """`params._meta`, when it is an object."""
    params: object = body.get("params")
    meta: object = cast("JsonObject", params).get("_meta") if isinstance(params, dict) else None
    return cast("JsonObject", meta) if isinstance(meta, dict) else None


def _refuse_name(body: JsonObject, headers: RequestHeaders) -> Failure | None:
    parameter = NAME_PARAMETER.get(body["method"])
    if parameter is None:
        return None
    value: object = body["params"].get(parameter)
    if value is not None and decode_value(headers.get(NAME_HEADER)) != value:
        return _mismatch(f"{NAME_HEADER} header does not match params.{parameter}")
    return None


def _mismatch(reason: str) -> Failure:
    return Failure(400, HEADER_MISMATCH, reason)
