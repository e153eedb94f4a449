"""A JSON Schema, compiled once and bounded: no network, linear-time patterns, affordable depth (SPEC C2).

The adapter to jsonschema-rs; `jsonschema` could take its place.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import jsonschema_rs

from registry.contracts.canonical import NotCanonicalError, canonical
from registry.contracts.cost import CostError, affordable_depth
from registry.problems import printable

MAX_SCHEMA_BYTES: Final = 262_144
BACKTRACK_LIMIT: Final = 10_000
_MESSAGE_CHARS = 400
_VALUE: Final = "the value"
_DIALECTS: Mapping[str, Any] = {
    "": jsonschema_rs.Draft202012Validator,
    "https://json-schema.org/draft/2020-12/schema": jsonschema_rs.Draft202012Validator,
    "https://json-schema.org/draft/2019-09/schema": jsonschema_rs.Draft201909Validator,
    "http://json-schema.org/draft-07/schema": jsonschema_rs.Draft7Validator,
    "http://json-schema.org/draft-06/schema": jsonschema_rs.Draft6Validator,
    "http://json-schema.org/draft-04/schema": jsonschema_rs.Draft4Validator,
}
Purpose = Literal["input", "output"]


class SchemaError(ValueError):
    """The schema cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Checker:
    """One compiled schema. `max_depth` bounds values of schemas whose cost grows with depth.

    `backtracks` tells that a pattern looks around, so that it runs with a step limit instead of in linear time.
    """

    is_valid: Callable[[object], bool]
    errors: Callable[[object], Any]
    max_depth: int | None = None
    backtracks: bool = False

    def fault(self, value: object) -> str | None:
        """Return where the value breaks the schema and how, `/items/3: …`, without quoting the value; None if valid."""
        if self.max_depth is not None and is_deeper(value, self.max_depth):
            return f"/: it nests more than {self.max_depth} levels deep, which this schema cannot be checked for"
        try:
            return None if self.is_valid(value) else self._first(value)
        except (ValueError, RecursionError, TypeError) as error:
            return f"/: it cannot be checked: {error}"[:_MESSAGE_CHARS]

    def _first(self, value: object) -> str:
        error = next(iter(self.errors(value)), None)
        if error is None:
            return "/: it does not fit the schema"
        path = "".join(f"/{_token(part)}" for part in error.instance_path) or "/"
        return printable(f"{path}: {error.message}"[:_MESSAGE_CHARS])


def compile_schema(schema: object, purpose: Purpose) -> Checker:
    """Compile a tool's schema; raise `SchemaError`. Arguments are objects, so that an input schema describes one."""
    if not isinstance(schema, Mapping):
        raise SchemaError(f"it must be an object, not {type(schema).__name__}")
    known = dict(cast("Mapping[str, Any]", schema))
    if purpose == "input" and known.get("type") != "object":
        raise SchemaError('an input schema says `"type": "object"` at its top')
    dialect = _DIALECTS.get(str(known.get("$schema") or "").rstrip("#"))
    if dialect is None:
        raise SchemaError(f"its dialect {str(known.get('$schema'))[:200]!r} is not known")
    try:
        if len(canonical(known)) > MAX_SCHEMA_BYTES:
            raise SchemaError(f"it has more than {MAX_SCHEMA_BYTES:,} bytes")
        depth = affordable_depth(known)
    except (CostError, NotCanonicalError, RecursionError) as error:
        raise SchemaError(str(error)) from error
    return _compile(dialect, known, depth)


def _compile(dialect: Any, schema: Mapping[str, Any], depth: int | None) -> Checker:
    try:
        made, backtracks = _made(dialect, schema, jsonschema_rs.RegexOptions()), False
    except jsonschema_rs.ValidationError as error:
        if "regex" not in error.message:
            raise SchemaError(_reason(error)) from error
        try:
            options = jsonschema_rs.FancyRegexOptions(backtrack_limit=BACKTRACK_LIMIT)
            made, backtracks = _made(dialect, schema, options), True
        except (jsonschema_rs.ValidationError, ValueError) as second:
            raise SchemaError(_reason(second)) from second
    except ValueError as error:
        raise SchemaError(_reason(error)) from error
    return Checker(made.is_valid, made.iter_errors, depth, backtracks)


def _made(dialect: Any, schema: Mapping[str, Any], patterns: object) -> Any:
    return dialect(schema, pattern_options=patterns, mask=_VALUE, offline=True)


def _reason(error: Exception) -> str:
    place = "".join(f"/{_token(part)}" for part in getattr(error, "instance_path", ()))
    text = str(getattr(error, "message", None) or error).partition("\n")[0]
    return printable(f"{place}: {text}" if place else text)[:_MESSAGE_CHARS]


def is_deeper(value: object, limit: int) -> bool:
    """Whether objects and arrays nest more than `limit` deep."""
    level: list[object] = [value]
    for _ in range(limit + 1):
        level = [inner for each in level for inner in _inside(each)]
        if not level:
            return False
    return any(isinstance(each, dict | list) for each in level)


def _inside(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(cast("dict[str, object]", value).values())
    return cast("list[object]", value) if isinstance(value, list) else []


def _token(part: object) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")
