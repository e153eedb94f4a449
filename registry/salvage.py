"""What can still be read of a fleet with mistakes in it, so that one run finds the mistakes in the rest, too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from registry.layout import Layout
from registry.models import Fleet
from registry.schema_problems import MAX_REPORTED, intended
from registry.source import Data, Pointer

_MAX_ROUNDS = 12
_VERSION: Pointer = ("version",)


@dataclass(frozen=True, slots=True)
class Salvage:
    """`draft` is the fleet without its unusable parts, which `unread` names; `errors` are those of the whole.

    An element that left a list moves the later ones up: `renumbered` gives, for such a list of the draft, the index
    that each element has in the file.
    """

    draft: Fleet | None
    errors: Sequence[ErrorDetails] = ()
    unread: frozenset[Pointer] = frozenset()
    renumbered: Mapping[Pointer, tuple[int, ...]] = field(default_factory=dict[Pointer, tuple[int, ...]])


def salvage(data: dict[str, Data]) -> Salvage:
    """Build the fleet, without its unusable parts if need be."""
    errors: Sequence[ErrorDetails] = ()
    unread: set[Pointer] = set()
    renumbered: dict[Pointer, tuple[int, ...]] = {}
    usable: Data = data
    for _ in range(_MAX_ROUNDS):
        try:
            return Salvage(Fleet.model_validate(usable), errors, frozenset(unread), renumbered)
        except ValidationError as refusal:
            latest = refusal.errors(include_url=False)
        if not errors:
            errors = latest
            unread.update(meant for error in latest[:MAX_REPORTED] if (meant := intended(error)))
        moved = Layout((), renumbered=renumbered)
        unread.update(_unusable(data, moved.in_files(error["loc"]), error["type"]) for error in latest)
        renumbered = {}
        usable = _without(data, unread, (), (), renumbered)
        if isinstance(usable, dict) and _VERSION in unread:
            usable["version"] = 1
    return Salvage(None, errors, frozenset(unread))


def _unusable(data: Data, pointer: Pointer, kind: str) -> Pointer:
    """Return the smallest part that can go: an entry of a mapping, or a mapping in a list.

    Never one of several plain values, because their order may mean something, as in a command.
    """
    if kind == "missing":
        pointer = pointer[:-1]
    here = data
    for depth, part in enumerate(pointer):
        inner = _inside(here, part)
        if isinstance(part, int) and not isinstance(inner, dict):
            return pointer[:depth]
        here = inner
    return pointer or _VERSION


def _inside(here: Data, part: str | int) -> Data:
    if isinstance(here, list) and isinstance(part, int):
        return here[part] if part < len(here) else None
    return here.get(str(part)) if isinstance(here, dict) else None


def _without(
    node: Data, gone: set[Pointer], source: Pointer, target: Pointer, renumbered: dict[Pointer, tuple[int, ...]]
) -> Data:
    """Copy a tree without the parts that are gone; `source` and `target` are where the node is and will be."""
    if isinstance(node, dict):
        return {
            key: _without(value, gone, (*source, key), (*target, key), renumbered)
            for key, value in node.items()
            if (*source, key) not in gone
        }
    if not isinstance(node, list):
        return node
    kept = tuple(index for index in range(len(node)) if (*source, index) not in gone)
    if len(kept) < len(node):
        renumbered[target] = kept
    return [
        _without(node[index], gone, (*source, index), (*target, position), renumbered)
        for position, index in enumerate(kept)
    ]
