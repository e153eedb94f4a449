"""What JSON pointers (RFC 6901; the token `*` stands for all) take out of data, and texts that repeat it. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, cast

from proxy.audit.detector import MASK

_SHORTEST: Final = 4
_MOST: Final = 10_000
_MOST_COMPARISONS: Final = 100_000


class Echoes:
    """Masks texts that repeat what was taken out, by looking at how each of them begins.

    A caller chooses how many there are: of very many none is told from the others (`are_too_many`), and where comparing
    has taken too long, a text that may hold one is masked.
    """

    def __init__(self, taken: set[str]) -> None:
        self.are_too_many = len(taken) > _MOST
        self._by_start: dict[str, list[str]] = {}
        self._left = _MOST_COMPARISONS
        known = () if self.are_too_many else taken
        for form in {form for echo in known if len(echo) >= _SHORTEST for form in _escaped(echo)}:
            self._by_start.setdefault(form[:_SHORTEST], []).append(form)

    def mask(self, text: str) -> str:
        """Return the text without them."""
        by_start = self._by_start
        if self.are_too_many:
            return MASK
        if not by_start:
            return text
        starts = by_start.keys() & {text[at : at + _SHORTEST] for at in range(len(text) - _SHORTEST + 1)}
        self._left -= sum(len(by_start[start]) for start in starts)
        if self._left < 0:
            return MASK if starts else text
        for echo in sorted((each for start in starts for each in by_start[start]), key=len, reverse=True):
            text = text.replace(echo, MASK)
        return text


def without(value: object, pointers: Sequence[str]) -> tuple[object, Echoes]:
    """Return a copy of JSON data without what the pointers name, and what masks it in texts that repeat it."""
    taken: set[str] = set()
    for pointer in pointers:
        value = _without(value, _parse(pointer), taken)
    return value, Echoes(taken)


@lru_cache(1024)
def _parse(pointer: str) -> tuple[str, ...]:
    """Return the tokens of a JSON pointer; one without its leading slash is read as if it had it."""
    if not pointer:
        return ()
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in pointer.removeprefix("/").split("/"))


def _escaped(text: str) -> set[str]:
    """Return a text as it is, as it stands in JSON, and as it stands in JSON text inside JSON."""
    once = json.dumps(text)[1:-1]
    return {text, once, json.dumps(once)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}


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
    """Yield the texts and numbers in a value, however deep it nests."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, Mapping):
            stack.extend(cast("Mapping[str, object]", item).values())
        elif isinstance(item, (list, tuple)):
            stack.extend(cast("Sequence[object]", item))
        elif item is not None and not isinstance(item, bool):
            yield str(item)
