"""`Mcp-Param-*` headers mirror arguments: whoever rewrites arguments writes the headers again (SEP-2243). Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from proxy.exchange import Header
from proxy.wire.header_value import encode_value
from proxy.wire.params import ParamHeader


def mirrored(
    headers: Sequence[Header], declared: Sequence[ParamHeader], arguments: Mapping[str, Any]
) -> tuple[Header, ...]:
    """Return the client's headers with those that a tool declares written from the arguments as they are now."""
    names = {param.header for param in declared}
    kept = [header for header in headers if header[0] not in names]
    fresh = [(param.header, spelt) for param in declared if (spelt := _spelt(arguments, param.path)) is not None]
    return (*kept, *fresh)


def _spelt(arguments: Mapping[str, Any], path: Sequence[str]) -> bytes | None:
    node: object = arguments
    for key in path:
        node = cast("Mapping[str, object]", node).get(key) if isinstance(node, Mapping) else None
    if isinstance(node, bool):
        return b"true" if node else b"false"
    return encode_value(str(node)) if isinstance(node, str | int | float) else None
