"""What a server offers now against what was pinned, and what follows for its callers. No I/O.

`strict` withholds what is not as pinned, from lists and from use, and trusts nothing before it was looked at. `warn`
lets it pass and tells. What is not pinned at all is not as pinned; without a lock nothing is.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import cast

import msgspec

from proxy.guard.tool import Mode
from registry.contracts.catalogue import Catalogue
from registry.contracts.definitions import Definition, Kind, name_of, pinned
from registry.contracts.drift import Drift, Subject, compare, compare_instructions, compare_items
from registry.contracts.locked import ServerLock
from registry.models import Server

Findings = Mapping[tuple[Subject, str], Drift]
_encode = msgspec.json.Encoder(order="deterministic").encode
_REMEMBERED = 20_000


class Contracts:
    """One server's state in one worker. `on_change` is called when what is known to have drifted changed.

    `revision` counts these changes, and the reasons to look again. Idle: nothing would be compared. Strict: nothing may
    be used before the server was looked at.
    """

    def __init__(self, server: Server, lock: ServerLock | None, on_change: Callable[[], None] | None = None) -> None:
        contract = server.contract
        self.server = server.name
        self.is_locked = lock is not None
        self.on_change = on_change or _nothing
        self._lock = lock or ServerLock()
        self._mode: Mode = contract.drift
        self._resources: Mode = contract.resources or contract.drift
        modes = (self.mode("tools"), self.mode("resources"))
        self.is_idle = modes == ("skip", "skip")
        self.is_strict = "strict" in modes
        self._found: dict[tuple[Subject, str], Drift] = {}
        self._same: set[bytes] = set()
        self.is_verified = False
        self.revision = 0

    def mode(self, kind: Subject) -> Mode:
        """Return what happens to what drifted."""
        mode = self._resources if kind in {"resources", "templates"} else self._mode
        return mode if self.is_locked or mode == "strict" else "skip"

    def findings(self) -> Findings:
        """Return what is known to have drifted, by kind and name."""
        return {key: drift for key, drift in self._found.items() if self.mode(drift.kind) != "skip"}

    def why_withheld(self, kind: Subject, name: str) -> str | None:
        """Return why callers must not use or see a thing; None if they may."""
        if self.mode(kind) != "strict":
            return None
        if not self.is_locked:
            return f"server {self.server} is not locked: run `postern lock {self.server}` and review what it pins"
        drift = self._found.get((kind, name))
        if drift is not None:
            return str(drift)
        if kind != "instructions" and name not in self._lock.of(kind):
            return str(Drift(kind, name, "added"))
        return None

    def compare(self, live: Catalogue) -> tuple[Drift, ...]:
        """Return how what the whole server offers differs from the lock; changes nothing, so any thread may ask."""
        return compare(self._lock, live) if self.is_locked else ()

    def learn(self, drift: tuple[Drift, ...], revision: int) -> bool:
        """Take over what a look that began at `revision` has found; return whether that is the last word.

        It is not where something else became known meanwhile: the look may have seen the server as it was before. What
        is known then stays known, and another look has to decide.
        """
        is_current = revision == self.revision
        self._replace({} if is_current else self._found, drift)
        self.is_verified = self.is_verified or is_current
        return is_current

    def distrust(self) -> None:
        """The server may be another one now: it is to be looked at again, and no look that is under way counts."""
        self.is_verified = False
        self.revision += 1

    def learn_instructions(self, text: str | None) -> tuple[str | None, bool]:
        """Take over what an initialize or discover said; return what is wrong with it, and whether it is withheld."""
        if not self.is_locked:
            why = self.why_withheld("instructions", "")
            return why, why is not None
        drift = compare_instructions(self._lock.instructions, text)
        self._replace({key: each for key, each in self._found.items() if key[0] != "instructions"}, _maybe(drift))
        return str(drift) if drift is not None else None, self.mode("instructions") == "strict"

    def learn_page(self, kind: Kind, items: list[object], *, is_whole: bool) -> tuple[tuple[Drift, ...], set[str]]:
        """Take over one page of a list; return what drifted, and the names that must not be shown."""
        found: dict[str, Definition] = {}
        same: set[str] = set()
        drift: list[Drift] = []
        for item in items:
            name = name_of(kind, item)
            if name is None:
                continue
            if name in found or name in same:
                drift.append(Drift(kind, name, "duplicated"))
            self._sort_in(kind, name, cast("dict[str, object]", item), found, same)
        seen = {*found, *same}
        if self.is_locked:
            drift += self._compare_page(kind, found, same, is_whole=is_whole)
            self._forget(kind, seen, tuple(drift), is_whole=is_whole)
        return tuple(drift), {name for name in seen if self.why_withheld(kind, name) is not None}

    def _sort_in(
        self, kind: Kind, name: str, item: dict[str, object], found: dict[str, Definition], same: set[str]
    ) -> None:
        """Items whose bytes were as pinned before need no second look, which is nearly all of them."""
        definition = pinned(kind, item)
        pin = self._lock.of(kind).get(name)
        try:
            known = _encode([kind, definition])
        except (TypeError, ValueError, OverflowError, RecursionError):
            known = b""
        if pin is None or known not in self._same:
            found[name] = definition
            same.discard(name)
            if pin is not None and known and not compare_items(kind, {name: pin}, {name: definition}, is_whole=False):
                if len(self._same) >= _REMEMBERED:
                    self._same.clear()
                self._same.add(known)
        elif name not in found:
            same.add(name)

    def _compare_page(
        self, kind: Kind, found: Mapping[str, Definition], same: set[str], *, is_whole: bool
    ) -> tuple[Drift, ...]:
        pins = self._lock.of(kind)
        if not found and (not is_whole or pins.keys() <= same):
            return ()
        return compare_items(kind, pins, {**{name: pins[name].definition for name in same}, **found}, is_whole=is_whole)

    def _forget(self, kind: Kind, seen: set[str], drift: tuple[Drift, ...], *, is_whole: bool) -> None:
        """Keep what is known of the rest: of other kinds, and of this kind's things that the page does not show."""
        kept = {
            key: each
            for key, each in self._found.items()
            if key[0] != kind or (not is_whole and not seen.intersection(each.affected()))
        }
        self._replace(kept, drift)

    def _replace(self, kept: Findings, drift: Iterable[Drift]) -> None:
        found = dict(kept)
        for each in drift:
            for name in each.affected():
                found[each.kind, name] = each
        before = {key: str(each) for key, each in self._found.items()}
        self._found = found
        if before != {key: str(each) for key, each in found.items()}:
            self.revision += 1
            self.on_change()


def _maybe(drift: Drift | None) -> tuple[Drift, ...]:
    return (drift,) if drift is not None else ()


def _nothing() -> None:
    """Nobody wants to know."""
