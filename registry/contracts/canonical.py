"""JSON Canonicalization Scheme (RFC 8785): one spelling for each JSON value, so that a digest means the value. Pure.

Members are sorted by UTF-16 code units, numbers are written as ECMAScript writes doubles. Integers beyond 2^53, for
which the RFC has no exact spelling, keep every digit: two different numbers never have one digest.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from typing import cast

PREFIX = "sha256:"
_EXACT = 2**53
_MOST_DEPTH = 256


class NotCanonicalError(ValueError):
    """The value has no canonical form: it nests too deep, or holds a lone surrogate or a number that JSON has not."""


def digest(value: object) -> str:
    """Return `sha256:` and the hex digest of the canonical form."""
    return PREFIX + hashlib.sha256(canonical(value)).hexdigest()


def canonical(value: object) -> bytes:
    """Return the canonical form of decoded JSON, in UTF-8; raise `NotCanonicalError`."""
    try:
        return "".join(_parts(value, 0)).encode()
    except UnicodeEncodeError as error:
        raise NotCanonicalError("a text holds a lone surrogate") from error


def _parts(value: object, depth: int) -> Iterator[str]:
    if depth > _MOST_DEPTH:
        raise NotCanonicalError(f"it nests more than {_MOST_DEPTH} levels deep")
    match value:
        case None:
            yield "null"
        case bool():
            yield "true" if value else "false"
        case str():
            yield json.dumps(value, ensure_ascii=False)
        case int() | float():
            yield number(value)
        case dict():
            yield from _members(cast("dict[str, object]", value), depth)
        case list() | tuple():
            yield from _elements(cast("list[object]", value), depth)
        case _:
            raise NotCanonicalError(f"{type(value).__name__} is no JSON value")


def _members(members: dict[str, object], depth: int) -> Iterator[str]:
    opening = "{"
    for key in sorted(members, key=_code_units):
        yield f"{opening}{json.dumps(key, ensure_ascii=False)}:"
        yield from _parts(members[key], depth + 1)
        opening = ","
    yield "}" if members else "{}"


def _elements(elements: list[object], depth: int) -> Iterator[str]:
    opening = "["
    for element in elements:
        yield opening
        yield from _parts(element, depth + 1)
        opening = ","
    yield "]" if elements else "[]"


def _code_units(key: object) -> bytes:
    if not isinstance(key, str):
        raise NotCanonicalError("a key is not a string")
    return key.encode("utf-16-be", "surrogatepass")


def number(value: float) -> str:
    """Spell a number as ECMAScript's Number::toString does."""
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        raise NotCanonicalError(f"{value} is no JSON number")
    if value.is_integer() and abs(value) <= _EXACT:
        return str(int(value))
    return ("-" if value < 0 else "") + _positive(abs(value))


def _positive(value: float) -> str:
    """Lay out the shortest digits that round-trip, which `repr` finds, as ECMA-262 §6.1.6.1.20 says."""
    mantissa, _, exponent = repr(value).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        return digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return "0." + "0" * -point + digits
    sign = "+" if point > 0 else "-"
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{tail}e{sign}{abs(point - 1)}"
