"""Where two JSON values differ, as pointers and as lines that a reviewer reads. Pure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from registry.contracts.canonical import NotCanonicalError, canonical
from registry.problems import printable

_SHOWN_CHARS = 400


class _Absent:
    def __repr__(self) -> str:
        return "absent"


ABSENT: Final = _Absent()


@dataclass(frozen=True, slots=True)
class Difference:
    """One place; `was` or `now` is ABSENT where the place is new or gone. The pointer is RFC 6901."""

    pointer: str
    was: object
    now: object

    @property
    def verb(self) -> str:
        """Say in one word what happened."""
        if self.was is ABSENT:
            return "added"
        return "removed" if self.now is ABSENT else "changed"

    def lines(self) -> list[str]:
        """Return the place and both sides."""
        sides = [("-", self.was), ("+", self.now)]
        return [f"{self.pointer or '/'}: {self.verb}", *(_side(*side) for side in sides if side[1] is not ABSENT)]


def differences(was: object, now: object, pointer: str = "") -> Iterator[Difference]:
    """Yield the deepest places where two values differ; 1 and 1.0 are the same, 1 and true are not."""
    match was, now:
        case Mapping(), Mapping():
            before, after = cast("Mapping[str, object]", was), cast("Mapping[str, object]", now)
            for key in {**before, **after}:
                yield from differences(before.get(key, ABSENT), after.get(key, ABSENT), f"{pointer}/{_token(key)}")
        case list(), list():
            yield from _elements(cast("list[object]", was), cast("list[object]", now), pointer)
        case _:
            if not is_same(was, now):
                yield Difference(pointer, was, now)


def is_same(was: object, now: object) -> bool:
    """Whether two values are one JSON value; what has no canonical form is like nothing."""
    if was is ABSENT or now is ABSENT:
        return was is now
    try:
        return canonical(was) == canonical(now)
    except NotCanonicalError:
        return False


def _elements(was: Sequence[object], now: Sequence[object], pointer: str) -> Iterator[Difference]:
    """Lists of scalars are read as sets with an order: what came and what went; others element by element."""
    if all(isinstance(each, str) for each in (*was, *now)):
        gone, come = [each for each in was if each not in now], [each for each in now if each not in was]
        yield from (Difference(f"{pointer}/{was.index(each)}", each, ABSENT) for each in gone)
        yield from (Difference(f"{pointer}/{now.index(each)}", ABSENT, each) for each in come)
        if not gone and not come and list(was) != list(now):
            yield Difference(pointer, was, now)
        return
    for index in range(max(len(was), len(now))):
        before = was[index] if index < len(was) else ABSENT
        after = now[index] if index < len(now) else ABSENT
        yield from differences(before, after, f"{pointer}/{index}")


def _token(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _side(sign: str, value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    shown = text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}… ({len(text):,} characters)"
    return f"  {sign} {printable(shown)}"
