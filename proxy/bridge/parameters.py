"""`Mcp-Param-*` headers against the arguments of a `tools/call` (SEP-2243). Pure.

A tool's input schema may ask with `x-mcp-header` that an argument is mirrored in a header. Header and argument must
agree: both there and equal, or both absent.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from proxy.bridge.frames import JsonObject
from proxy.bridge.headers import RequestHeaders, decode_value
from proxy.bridge.replies import Failure
from proxy.errors import HEADER_MISMATCH

PREFIX: Final = "mcp-param-"
_ANNOTATION: Final = "x-mcp-header"
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DECIMAL: Final = re.compile(r"(?P<whole>-?[0-9]+)(\.0+)?")
_PLAIN_TYPES: Final = frozenset({"string", "integer", "boolean"})

# Where JSON Schema 2020-12 keeps schemas below a schema, by the shape of the keyword's value. `properties` is apart: it
# is the only way down on which an annotation counts.
_ONE: Final = (
    "items",
    "contains",
    "unevaluatedItems",
    "additionalProperties",
    "propertyNames",
    "unevaluatedProperties",
    "not",
    "if",
    "then",
    "else",
    "contentSchema",
)
_LIST: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_MAP: Final = ("patternProperties", "dependentSchemas", "$defs", "definitions")


@dataclass(frozen=True, slots=True)
class Mirrored:
    """One argument that is mirrored: where it is, in which header (lower case), of which JSON type."""

    path: tuple[str, ...]
    header: str
    json_type: str


def mirrored_arguments(schema: object) -> tuple[Mirrored, ...]:
    """List what a schema asks to be mirrored; nothing when one annotation is invalid, clients then drop the tool."""
    found: list[Mirrored] = []
    for path, node in _positions(schema):
        if _ANNOTATION not in node:
            continue
        token: object = node[_ANNOTATION]
        json_type: object = node.get("type")
        if not path or not isinstance(token, str) or not _TOKEN.fullmatch(token):
            return ()
        if not isinstance(json_type, str) or json_type not in _PLAIN_TYPES:
            return ()
        found.append(Mirrored(path, PREFIX + token.lower(), json_type))
    return tuple(found) if len({one.header for one in found}) == len(found) else ()


def refuse_parameters(wanted: tuple[Mirrored, ...], arguments: JsonObject, headers: RequestHeaders) -> Failure | None:
    """Name the first header that does not say what the argument says."""
    for one in wanted:
        reason = _disagreement(one, _argument(arguments, one.path), headers.lines(one.header))
        if reason is not None:
            return Failure(400, HEADER_MISMATCH, f"{one.header} header {reason}")
    return None


def _disagreement(one: Mirrored, value: object, lines: list[str]) -> str | None:
    name = ".".join(one.path)
    if len(lines) > 1:
        return "appears more than once"
    rendered = _render(value)
    if rendered is None:
        return f"is present but the argument {name!r} is not" if lines else None
    if not lines:
        return f"is missing but the argument {name!r} is present"
    decoded = decode_value(lines[0])
    if decoded is None:
        return "carries a broken base64 value"
    return None if _agrees(one.json_type, value, rendered, decoded) else f"does not match the argument {name!r}"


def _agrees(json_type: str, value: object, rendered: str, decoded: str) -> bool:
    """Equal as text, and whole numbers as numbers (42 and 42.0)."""
    if decoded == rendered:
        return True
    decimal = _DECIMAL.fullmatch(decoded)
    if json_type != "integer" or decimal is None or isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return int(decimal["whole"]) == value
    except ValueError:
        return False


def _render(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        return None
    try:
        return str(value)
    except ValueError:
        return None


def _argument(arguments: JsonObject, path: tuple[str, ...]) -> object:
    holder = arguments
    for key in path[:-1]:
        below: object = holder.get(key)
        if not isinstance(below, dict):
            return None
        holder = cast("JsonObject", below)
    return cast("object", holder.get(path[-1]))


def _positions(root: object) -> Iterator[tuple[tuple[str, ...] | None, Mapping[str, Any]]]:
    """Every schema below a schema, with its chain of property names, or None off that chain. `$ref` is not followed."""
    pending: list[tuple[tuple[str, ...] | None, object]] = [((), root)]
    while pending:
        path, node = pending.pop()
        if not isinstance(node, dict):
            continue
        schema = cast("JsonObject", node)
        yield path, schema
        for name, below in _entries(schema.get("properties")):
            pending.append((None if path is None else (*path, name), below))
        pending += [(None, schema[word]) for word in _ONE if word in schema]
        pending += [(None, below) for word in _LIST for below in _items(schema.get(word))]
        pending += [(None, below) for word in _MAP for _, below in _entries(schema.get(word))]


def _entries(value: object) -> list[tuple[str, object]]:
    return list(cast("dict[str, object]", value).items()) if isinstance(value, dict) else []


def _items(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []
