"""How what a server offers differs from what was reviewed, in words that name a rename and a swap as such. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from registry.contracts.canonical import NotCanonicalError, digest
from registry.contracts.catalogue import Catalogue
from registry.contracts.definitions import KINDS, NAMED_BY, SINGULAR, Definition, Kind, Pin, member_digests
from registry.contracts.differences import ABSENT, Difference, differences
from registry.contracts.locked import ServerLock
from registry.problems import printable

Change = Literal["added", "removed", "changed", "renamed", "swapped", "duplicated"]
Subject = Kind | Literal["instructions"]
_NAMED_PLACES = 3


@dataclass(frozen=True, slots=True)
class Drift:
    """One thing that is not as pinned. `other` is the second name of a rename or a swap; `places` say what changed."""

    kind: Subject
    name: str
    change: Change
    other: str | None = None
    places: tuple[Difference, ...] = ()

    def __str__(self) -> str:
        """Say it in one sentence."""
        what = "instructions" if self.kind == "instructions" else f"{SINGULAR[self.kind]} {_shown(self.name)}"
        match self.change:
            case "added":
                looks = f"; it is what {_shown(self.other)} was pinned as" if self.other else ""
                return f"{what} {'are' if self.kind == 'instructions' else 'is'} not pinned{looks}"
            case "removed":
                return f"{what} {'are' if self.kind == 'instructions' else 'is'} gone"
            case "renamed":
                also = f", and changed: {_places(self.places)}" if self.places else ""
                return f"{what} is now called {_shown(self.other or '')}{also}"
            case "swapped":
                return f"{what} now says what {_shown(self.other or '')} said: {_members(self.places)}"
            case "duplicated":
                return f"{what} is listed more than once"
            case "changed":
                return f"{what} changed: {_places(self.places)}"

    def affected(self) -> tuple[str, ...]:
        """Return the names that callers must not use while this stands."""
        return (self.name, self.other) if self.change == "renamed" and self.other is not None else (self.name,)


def compare(lock: ServerLock, live: Catalogue) -> tuple[Drift, ...]:
    """Compare everything; nothing drifted if the result is empty."""
    found: list[Drift] = []
    for kind in KINDS:
        found.extend(compare_items(kind, lock.of(kind), live.of(kind), is_whole=True))
    found.extend(Drift("tools", name, "duplicated") for name in live.duplicates if name in live.of("tools"))
    if (instructions := compare_instructions(lock.instructions, live.instructions)) is not None:
        found.append(instructions)
    return tuple(found)


def compare_instructions(was: str | None, now: str | None) -> Drift | None:
    """Compare what a server tells every model."""
    if (was or "") == (now or ""):
        return None
    change: Change = "added" if not was else "changed" if now else "removed"
    return Drift("instructions", "", change, places=(Difference("", was or ABSENT, now or ABSENT),))


def compare_items(
    kind: Kind, pins: Mapping[str, Pin], live: Mapping[str, Definition], *, is_whole: bool
) -> tuple[Drift, ...]:
    """Compare one list, or a page of it: then nothing counts as gone, and so nothing as renamed."""
    places = {name: tuple(differences(pins[name].definition, item)) for name, item in live.items() if name in pins}
    changed = {name: each for name, each in places.items() if each}
    added = {name: item for name, item in live.items() if name not in pins}
    absent = {name: pin for name, pin in pins.items() if name not in live}
    found = list(_changed(kind, changed, pins, live))
    renamed = list(_renamed(kind, absent, added)) if is_whole else []
    taken = {name for each in renamed for name in each.affected()}
    twins = {body: name for name, pin in absent.items() if added and (body := _body(kind, pin.definition))}
    found += renamed
    found += [Drift(kind, name, "removed") for name in absent if is_whole and name not in taken]
    for name, item in added.items():
        if name not in taken:
            found.append(Drift(kind, name, "added", twins.get(_body(kind, item) or "") if twins else None))
    return tuple(found)


def _changed(
    kind: Kind,
    changed: Mapping[str, tuple[Difference, ...]],
    pins: Mapping[str, Pin],
    live: Mapping[str, Definition],
) -> Iterator[Drift]:
    """Name each change; one whose members are all another pin's, which changed as well, is a swap."""
    for name, places in changed.items():
        members = _top(places)
        now = member_digests({member: live[name][member] for member in members if member in live[name]})
        others = (other for other in changed if other != name and _says(pins[other], members, now))
        twin = next(others, None)
        yield Drift(kind, name, "swapped" if twin is not None else "changed", twin, places)


def _says(pin: Pin, members: Iterable[str], now: Mapping[str, object]) -> bool:
    return all(pin.members.get(member) == now.get(member) for member in members)


def _renamed(kind: Kind, removed: Mapping[str, Pin], added: Mapping[str, Definition]) -> Iterator[Drift]:
    """Pair what went with what came: first by the whole body, then by a schema that says something."""
    taken: set[str] = set()
    left = dict(removed)
    for body_of in (_body, _shape):
        bodies = {name: body for name, item in added.items() if name not in taken and (body := body_of(kind, item))}
        for name, pin in tuple(left.items()):
            wanted = body_of(kind, pin.definition)
            twin = next((other for other, body in bodies.items() if body == wanted), None) if wanted else None
            if twin is not None:
                taken.add(twin)
                del bodies[twin], left[name]
                named = {NAMED_BY[kind]: pin.definition.get(NAMED_BY[kind])}
                places = tuple(differences(pin.definition, {**added[twin], **named}))
                yield Drift(kind, name, "renamed", twin, places)


def _body(kind: Kind, item: Definition) -> str | None:
    """Digest what an item says without its name; None where it says nothing."""
    rest = {key: value for key, value in item.items() if key != NAMED_BY[kind]}
    return _digest(rest) if rest else None


def _shape(kind: Kind, item: Definition) -> str | None:
    schema = item.get("inputSchema" if kind == "tools" else "arguments")
    if isinstance(schema, Mapping):
        schema = schema if schema.get("properties") else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    return _digest(schema) if schema else None  # pyright: ignore[reportUnknownArgumentType]


def _digest(value: object) -> str | None:
    try:
        return digest(value)
    except NotCanonicalError:
        return None


def _top(places: Iterable[Difference]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(place.pointer.split("/")[1] for place in places))


def _members(places: Iterable[Difference]) -> str:
    return ", ".join(_shown(member) for member in _top(places))


def _places(places: tuple[Difference, ...]) -> str:
    named = [f"{_shown(place.pointer.lstrip('/'))} {place.verb}" for place in places[:_NAMED_PLACES] if place.pointer]
    more = [f"{len(places) - _NAMED_PLACES} more places"] if len(places) > _NAMED_PLACES else []
    return ", ".join([*named, *more]) or "the text is another"


def _shown(name: str) -> str:
    return printable(name[:120])
