"""Header lines with an index by name, so that the dozen questions about them cost one pass. Pure."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar, cast

MOST_FACTS = 64
"""So much is remembered of one head: it may be that of many tools, of sessions rebuilt and of rules reloaded since."""
T = TypeVar("T")
Header = tuple[bytes, bytes]
Index = Mapping[bytes, Sequence[bytes]]


class Fields(tuple[Header, ...]):  # noqa: SLOT001 -- a tuple with slots cannot hold its index
    """Header lines in their order, names in lower case; `by_name` has the values of each name, in their order.

    `facts` is what was found out about them. A client that keeps its connection repeats its head byte for byte, and
    the edge gives every repetition the same object: what follows from the head alone is found out once.
    """

    by_name: Index
    facts: dict[Hashable, Any]

    @classmethod
    def of(cls, lines: Sequence[Header]) -> "Fields":
        """Return the lines with their index; lines that have one already as they are."""
        if isinstance(lines, Fields):
            return lines
        made = cls(lines)
        made.by_name = _index(lines)
        made.facts = {}
        return made

    def learn(self, key: Hashable, fact: object) -> None:
        """Remember a fact; where that is one too many, forget the others, which can be found out again."""
        if len(self.facts) >= MOST_FACTS:
            self.facts.clear()
        self.facts[key] = fact


def index_of(lines: Sequence[Header]) -> Index:
    """Return the values of each name."""
    return lines.by_name if isinstance(lines, Fields) else _index(lines)


def fact_of(lines: Sequence[Header], key: Hashable, find: Callable[[Sequence[Header]], T]) -> T:
    """Return `find(lines)`, which depends on the lines and what `key` stands for and on nothing else."""
    if not isinstance(lines, Fields):
        return find(lines)
    facts = lines.facts
    if key in facts:
        return cast("T", facts[key])
    found = find(lines)
    lines.learn(key, found)
    return found


def _index(lines: Sequence[Header]) -> Index:
    found: dict[bytes, tuple[bytes, ...]] = {}
    for name, value in lines:
        found[name] = (*found[name], value) if name in found else (value,)
    return found
