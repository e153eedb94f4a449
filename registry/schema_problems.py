"""pydantic's errors → findings that say where, what and what to write instead."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Annotated, Any, cast, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from registry.layout import Layout
from registry.models import Fleet
from registry.problems import Problem, quoted
from registry.source import Pointer

MAX_REPORTED = 500
MAX_COMPARED = 200
_SECRET_PARTS = frozenset({"secret", "value", "env", "headers", "variables", "settings"})
_EXPECTED = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "model": "a mapping",
    "dict": "a mapping",
    "mapping": "a mapping",
    "tuple": "a list",
}
_OLD_BOOLEANS = {"yes": "true", "on": "true", "no": "false", "off": "false", "y": "true", "n": "false"}


def schema_problems(errors: Sequence[ErrorDetails], layout: Layout) -> list[Problem]:
    """Return one finding for each error, the first `MAX_REPORTED` in full."""
    found = [_problem(error, layout) for error in errors[:MAX_REPORTED]]
    if len(errors) > MAX_REPORTED:
        rest = f"{len(errors) - MAX_REPORTED} more findings like these"
        found.append(layout.problem("TOO-MANY-PROBLEMS", (), rest, "mend the ones above and check again"))
    return found


def near(word: str, known: Iterable[str]) -> str:
    """Return a `did you mean` hint, or the empty string."""
    meant = nearest(word, known)
    return f"did you mean `{meant}`?" if meant else ""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that looks most like `word`, whatever its case, if one is close enough."""
    by_lower = {entry.lower(): entry for entry in known}
    close = get_close_matches(word.lower(), _candidates(word.lower(), by_lower), n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def _candidates(word: str, known: Iterable[str]) -> list[str]:
    """Leave out what cannot be close, so that a large fleet's names are not all compared letter by letter."""
    words = [entry for entry in known if abs(len(entry) - len(word)) <= max(3, len(word) // 2)]
    if len(words) > MAX_COMPARED:
        words = [entry for entry in words if entry[:1] == word[:1]]
    return words[:MAX_COMPARED]


def intended(error: ErrorDetails) -> Pointer | None:
    """Return where a misspelt key was meant to be, so that its absence is not reported a second time."""
    pointer: Pointer = error["loc"]
    if error["type"] != "extra_forbidden":
        return None
    meant = nearest(str(pointer[-1]), known_keys(pointer[:-1]))
    return (*pointer[:-1], meant) if meant else None


def _problem(error: ErrorDetails, layout: Layout) -> Problem:
    pointer: Pointer = error["loc"]
    kind = error["type"]
    if kind == "extra_forbidden":
        return _unknown_key(pointer, layout)
    if kind == "missing":
        hint = f"add `{pointer[-1]}:` here"
        return layout.problem("SCHEMA-MISSING", pointer, "this key is required", hint)
    code, message, hint = _explained(error, pointer)
    return layout.problem(code, pointer, message, hint)


def _unknown_key(pointer: Pointer, layout: Layout) -> Problem:
    known = known_keys(pointer[:-1])
    hint = near(str(pointer[-1]), known) or f"known here: {', '.join(known)}"
    return layout.problem("SCHEMA-UNKNOWN-KEY", pointer, "unknown key", hint, key=True)


def _explained(error: ErrorDetails, pointer: Pointer) -> tuple[str, str, str]:
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    got = "" if _SECRET_PARTS.intersection(map(str, pointer)) else f", got {_shown(given)}"
    if kind == "literal_error":
        choices = [word.strip("'") for word in str(context["expected"]).replace(" or ", ", ").split(", ")]
        return "SCHEMA-CHOICE", f"must be one of {', '.join(choices)}{got}", near(str(given), choices)
    if kind == "string_pattern_mismatch":
        hint = "lower-case letters, digits and hyphens, 1 to 63 characters, no hyphen at either end"
        return "SCHEMA-NAME", f"{quoted(given)} is not a name", hint
    family = kind.removesuffix("_type").removesuffix("_parsing")
    if family in _EXPECTED:
        return "SCHEMA-TYPE", f"must be {_EXPECTED[family]}{got}", _type_hint(family, given)
    return "SCHEMA-RANGE", f"{_lowered(error['msg'])}{got}", ""


def _lowered(message: str) -> str:
    sentence = message.replace("Input should", "must").replace("String should", "must").replace("Tuple should", "must")
    return sentence[:1].lower() + sentence[1:]


def _shown(given: object) -> str:
    if given is None:
        return "nothing"
    if isinstance(given, dict):
        return "a mapping"
    return "a list" if isinstance(given, list) else quoted(given)


def _type_hint(family: str, given: object) -> str:
    if family == "bool" and isinstance(given, str):
        word = _OLD_BOOLEANS.get(given.lower())
        return f"YAML 1.2: write {word}" if word else ""
    if family == "string" and isinstance(given, int | float):
        return "put it in quotes"
    if family in {"int", "float"} and isinstance(given, str) and given.isdigit():
        return "write it without quotes"
    if family == "tuple" and isinstance(given, str):
        return f"write a list: [{', '.join(given.split()[:6])}]"
    if given is None and family in {"model", "dict", "mapping"}:
        return "write {} if it is meant to be empty"
    return ""


@lru_cache(maxsize=256)
def known_keys(pointer: Pointer) -> tuple[str, ...]:
    """Return the keys that the models know at a pointer, in their order."""
    here: Any = Fleet
    for part in pointer:
        here = _step(here, part)
    here = _bare(here)
    if isinstance(here, type) and issubclass(here, BaseModel):
        extra = ("include",) if here is Fleet else ()
        return (*here.model_fields, *extra)
    return ()


def _step(annotation: Any, part: str | int) -> Any:
    bare = _bare(annotation)
    if isinstance(bare, type) and issubclass(bare, BaseModel):
        field = bare.model_fields.get(str(part))
        return field.annotation if field else None
    arguments = get_args(bare)
    if get_origin(bare) is tuple:
        return arguments[0]
    return arguments[1] if get_origin(bare) is cast("type", Mapping) else None


def _bare(annotation: Any) -> Any:
    """Strip `Annotated` and `| None`."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    arguments = [a for a in get_args(annotation) if a is not type(None)]
    if type(None) in get_args(annotation) and len(arguments) == 1:
        return _bare(arguments[0])
    return annotation
