"""What a row keeps of a payload: redacted, capped, with size and digest of the whole (SPEC A5). Pure.

Redaction has three parts: the JSON pointers that the registry declares for a tool (RFC 6901; the token `*` stands for
every member or element), secrets by name or format, and whatever text repeats a value that a pointer took out: servers
send structured content a second time as text.
"""

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, cast

import msgspec

from proxy.audit.detector import MASK, mask_secrets, may_hold_secret, names_secret
from proxy.audit.record import Payload

MOST_DEPTH: Final = 128
SMALLEST_CAP: Final = 64
_SHORTEST_ECHO: Final = 4
_BEHIND_CAP: Final = 4096  # so that a secret across the cap is seen whole
_encode = msgspec.json.Encoder().encode


def snapshot(value: object, whole: bytes, pointers: Sequence[str], cap: int) -> Payload:
    """Return the snapshot of `value`, which was parsed from (a part of) `whole`.

    The text is valid JSON of at most `cap` bytes; None when there is no value, or the cap is too small for any. Cut
    short it is `{"truncated":"…"}`. `value` is not changed. Pointers are relative to `value`.
    """
    text = None if value is None or cap < SMALLEST_CAP else _shown(value, pointers, cap)
    return Payload(text, len(whole), hashlib.sha256(whole).digest())


def redact(value: object, pointers: Sequence[str] = (), budget: int = sys.maxsize) -> tuple[object, bool]:
    """Return a copy of JSON data without what the pointers name and without secrets, and whether it is complete.

    Work is bounded: text behind the first `budget` characters is left out.
    """
    taken: set[str] = set()
    for pointer in pointers:
        value = _without(value, parse_pointer(pointer), taken)
    echoes = sorted((echo for echo in taken if len(echo) >= _SHORTEST_ECHO), key=len, reverse=True)
    masking = _Masking(echoes, budget)
    return masking.copy(value, 0), masking.left > 0


@lru_cache(1024)
def parse_pointer(pointer: str) -> tuple[str, ...]:
    """Return the tokens of a JSON pointer; one without its leading slash is read as if it had it."""
    if not pointer:
        return ()
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in pointer.removeprefix("/").split("/"))


def _shown(value: object, pointers: Sequence[str], cap: int) -> str:
    text = _json(value)
    is_complete = True
    if pointers or may_hold_secret(text):
        clean, is_complete = redact(value, pointers, cap + _BEHIND_CAP)
        text = _json(clean)
    fits = is_complete and len(text) <= cap and len(text.encode()) <= cap
    return text if fits else _truncated(text, cap)


def _json(value: object) -> str:
    try:
        return _encode(value).decode()
    except (UnicodeEncodeError, OverflowError, TypeError, ValueError):  # lone surrogates, integers of any size
        return json.dumps(value, separators=(",", ":"), default=str)


def _truncated(text: str, cap: int) -> str:
    keep = cap - 20
    while True:
        made = _encode({"truncated": text[:keep]})
        if len(made) <= cap:
            return made.decode()
        keep = min(keep - 1, keep * cap // len(made))


def _without(value: object, tokens: tuple[str, ...], taken: set[str]) -> object:
    """Return `value` with what the tokens lead to masked; add the texts that were in it to `taken`."""
    if not tokens:
        taken.update(_leaves(value))
        return MASK
    token, rest = tokens[0], tokens[1:]
    if isinstance(value, Mapping):
        members = cast("Mapping[str, object]", value)
        return {key: _without(item, rest, taken) if token in ("*", key) else item for key, item in members.items()}
    if isinstance(value, (list, tuple)):
        elements = cast("Sequence[object]", value)
        return [
            _without(item, rest, taken) if token in ("*", str(index)) else item for index, item in enumerate(elements)
        ]
    return value


def _leaves(value: object) -> Iterable[str]:
    match value:
        case dict():
            for item in cast("dict[str, object]", value).values():
                yield from _leaves(item)
        case list() | tuple():
            for item in cast("Sequence[object]", value):
                yield from _leaves(item)
        case None | bool():
            return
        case _:
            yield str(value)


class _Masking:
    """One walk over JSON data, until `left` characters are used up."""

    def __init__(self, echoes: Sequence[str], budget: int) -> None:
        self.left = budget
        self._echoes = echoes

    def copy(self, value: Any, depth: int) -> object:
        if isinstance(value, str):
            return self._text(value)
        if depth > MOST_DEPTH:
            return MASK
        if isinstance(value, Mapping):
            return self._members(cast("Mapping[str, object]", value), depth + 1)
        if isinstance(value, (list, tuple)):
            return self._elements(cast("Sequence[object]", value), depth + 1)
        self.left -= 1
        return value

    def _members(self, members: Mapping[str, object], depth: int) -> dict[str, object]:
        made: dict[str, object] = {}
        for key, item in members.items():
            if self.left <= 0:
                break
            is_scalar = isinstance(item, (str, int, float)) and not isinstance(item, bool)
            made[self._text(key)] = MASK if is_scalar and names_secret(key) else self.copy(item, depth)
        return made

    def _elements(self, elements: Sequence[object], depth: int) -> list[object]:
        made: list[object] = []
        for item in elements:
            if self.left <= 0:
                break
            made.append(self.copy(item, depth))
        return made

    def _text(self, text: str) -> str:
        text = text[: self.left]
        self.left -= len(text) + 1
        for echo in self._echoes:
            text = text.replace(echo, MASK)
        return mask_secrets(text)
