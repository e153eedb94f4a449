"""`Mcp-Param-*`: the arguments that a tool's schema asks clients to mirror into headers (SEP-2243). Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from proxy.wire.fields import index_of
from proxy.wire.header_value import decode_value

ANNOTATION = "x-mcp-header"
PREFIX = b"mcp-param-"

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DECIMAL = re.compile(r"(-?[0-9]+)(?:\.0+)?")
_ONE_SCHEMA = frozenset(
    {
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
    }
)
_SCHEMA_LIST = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_SCHEMA_MAP = frozenset({"patternProperties", "dependentSchemas", "$defs", "definitions"})

Kind = Literal["string", "integer", "boolean"]
_KINDS: dict[object, Kind] = {"string": "string", "integer": "integer", "boolean": "boolean"}


@dataclass(frozen=True, slots=True)
class ParamHeader:
    """One mirrored argument: the header's name in lower case, the way to the argument, its type."""

    header: bytes
    path: tuple[str, ...]
    kind: Kind


def declared_params(input_schema: object) -> tuple[ParamHeader, ...]:
    """Return the headers that a tool's input schema declares; none at all where one declaration is invalid.

    Clients must drop a tool with an invalid declaration, so that no conforming call of it mirrors anything. A
    declaration counts on string, integer and boolean properties that a chain of `properties` alone leads to.
    """
    found: dict[bytes, ParamHeader] = {}
    for path, schema in _positions(input_schema):
        if ANNOTATION not in schema:
            continue
        param = _param(path, schema)
        if param is None or param.header in found:
            return ()
        found[param.header] = param
    return tuple(found.values())


def param_mismatch(
    header_lines: Sequence[tuple[bytes, bytes]], arguments: Mapping[str, Any], declared: Sequence[ParamHeader]
) -> str | None:
    """Return what is wrong between `mcp-param-*` headers and arguments, or None.

    A header that appears twice is wrong even where nothing is declared; a header that nobody declared is not ours.
    """
    headers: dict[bytes, bytes] = {}
    for name, values in index_of(header_lines).items():
        if name.startswith(PREFIX):
            if len(values) > 1:
                return f"{_shown(name)} header appears more than once"
            headers[name] = values[0]
    if not declared:
        return None
    return next((wrong for param in declared if (wrong := _wrong(param, headers.get(param.header), arguments))), None)


def _positions(root: object) -> Iterator[tuple[tuple[str, ...] | None, dict[str, Any]]]:
    """Yield every schema in a schema with the chain of properties that leads to it, None where another keyword does."""
    stack: list[tuple[tuple[str, ...] | None, object]] = [((), root)]
    while stack:
        path, node = stack.pop()
        if not isinstance(node, dict):
            continue
        schema = cast("dict[str, Any]", node)
        yield path, schema
        for keyword, value in schema.items():
            if keyword == "properties" and isinstance(value, dict):
                below = cast("dict[str, Any]", value)
                stack.extend(((*path, name) if path is not None else None, sub) for name, sub in below.items())
            else:
                stack.extend((None, sub) for sub in _subschemas(keyword, value))


def _subschemas(keyword: str, value: object) -> Sequence[object]:
    if keyword in _ONE_SCHEMA:
        return (value,)
    if keyword in _SCHEMA_LIST and isinstance(value, list):
        return cast("list[object]", value)
    if keyword in _SCHEMA_MAP and isinstance(value, dict):
        return tuple(cast("dict[str, object]", value).values())
    return ()


def _param(path: tuple[str, ...] | None, schema: dict[str, Any]) -> ParamHeader | None:
    token: object = schema[ANNOTATION]
    declared: object = schema.get("type")
    kind = _KINDS.get(declared) if isinstance(declared, str) else None
    if not path or kind is None or not isinstance(token, str) or _TOKEN.fullmatch(token) is None:
        return None
    return ParamHeader(PREFIX + token.lower().encode("ascii"), path, kind)


def _wrong(param: ParamHeader, raw: bytes | None, arguments: Mapping[str, Any]) -> str | None:
    name, argument = _shown(param.header), ".".join(param.path)
    value = _value_at(arguments, param.path)
    rendered = _rendered(value)
    if rendered is None:
        return None if raw is None else f"{name} header has no counterpart in argument {argument!r}"
    if raw is None:
        return f"{name} header is missing although argument {argument!r} is present"
    decoded = decode_value(raw)
    if decoded is None or not _agrees(param.kind, value, rendered, decoded):
        return f"{name} header does not match argument {argument!r}"
    return None


def _value_at(arguments: Mapping[str, Any], path: tuple[str, ...]) -> object:
    node: object = arguments
    for key in path:
        if not isinstance(node, Mapping):
            return None
        node = cast("Mapping[str, object]", node).get(key)
    return node


def _rendered(value: object) -> str | None:
    """Spell a scalar as clients mirror it; None for what has no spelling (null, arrays, objects)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None


def _agrees(kind: Kind, value: object, rendered: str, decoded: str) -> bool:
    """Integers compare as numbers, digit by digit and never through a float: 42 is 42.0."""
    is_integral = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if kind == "integer" and is_integral and not isinstance(value, bool):
        number = _DECIMAL.fullmatch(decoded)
        if number is not None:
            return _digits(number[1]) == _digits(str(int(cast("float", value))))
    return decoded == rendered


def _digits(number: str) -> str:
    sign, digits = ("-", number[1:]) if number.startswith("-") else ("", number)
    significant = digits.lstrip("0")
    return sign + significant if significant else "0"


def _shown(header: bytes) -> str:
    return header.decode("latin-1")[:80].title()
