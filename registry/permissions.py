"""Which permission implies which (SPEC R6).

`a` satisfies `b` only if `a` is `b`, or a chain of declared edges leads from `a` to `b`. Edges come from the ladder
(each rung implies every later one) and from `implies` (scope families). They point from wider to narrower and never
round in a circle, so nothing narrower can ever stand in for something wider.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Self

from registry.models import Permissions

MAX_PAIRS = 1_000_000
_NOBODY: frozenset[str] = frozenset()


class PermissionCycleError(ValueError):
    """The declared permissions imply each other in a circle; `cycle` names it, first and last element equal."""

    def __init__(self, cycle: tuple[str, ...]) -> None:
        super().__init__(" → ".join(cycle))
        self.cycle = cycle


class PermissionSizeError(ValueError):
    """The closure would hold more than `MAX_PAIRS` pairs: no fleet needs that, and memory stays bounded."""

    def __init__(self) -> None:
        super().__init__(f"the permission model implies more than {MAX_PAIRS} pairs")


class Implications:
    """The closure of a permission model, computed once; immutable, safe to share between tasks and threads."""

    __slots__ = ("_granted", "_granters")

    def __init__(self, granted: Mapping[str, frozenset[str]]) -> None:
        """`granted[p]` are all permissions that `p` stands for, itself among them."""
        granters: dict[str, set[str]] = {}
        for holder, scopes in granted.items():
            for scope in scopes:
                granters.setdefault(scope, set()).add(holder)
        self._granted = MappingProxyType(dict(granted))
        self._granters = MappingProxyType({scope: frozenset(holders) for scope, holders in granters.items()})

    @classmethod
    def of(cls, permissions: Permissions) -> Self:
        """Close the declared ladder and families; raises `PermissionCycleError` or `PermissionSizeError`."""
        cycle = find_cycle(permissions)
        if cycle:
            raise PermissionCycleError(cycle)
        edges = direct_edges(permissions)
        granted: dict[str, frozenset[str]] = {}
        pairs = 0
        for scope in edges:
            granted[scope] = _reachable(edges, scope)
            pairs += len(granted[scope])
            if pairs > MAX_PAIRS:
                raise PermissionSizeError
        return cls(granted)

    def expand(self, held: Iterable[str]) -> frozenset[str]:
        """Return everything that a holder of `held` may do: the scopes themselves and all that they imply."""
        everything: set[str] = set()
        for scope in held:
            everything.add(scope)
            everything |= self._granted.get(scope, _NOBODY)
        return frozenset(everything)

    def match(self, held: frozenset[str], needed: Iterable[str]) -> tuple[str, ...] | None:
        """Return the held scopes that satisfy *all* of `needed`, each once, in that order; None if one is missing.

        An exact scope is preferred; among several wider ones the alphabetically first, so that the row is reproducible.
        """
        matched: dict[str, None] = {}
        for scope in needed:
            if scope in held:
                matched[scope] = None
                continue
            wider = self._granters.get(scope, _NOBODY) & held
            if not wider:
                return None
            matched[min(wider)] = None
        return tuple(matched)

    def missing(self, held: frozenset[str], needed: Iterable[str]) -> tuple[str, ...]:
        """Return the needed scopes that `held` does not satisfy, in order."""
        return tuple(s for s in needed if s not in held and not self._granters.get(s, _NOBODY) & held)

    def granters(self, scope: str) -> frozenset[str]:
        """Return every permission that satisfies `scope`, itself among them."""
        return self._granters.get(scope, _NOBODY) | {scope}


def direct_edges(permissions: Permissions) -> dict[str, frozenset[str]]:
    """Return the declared edges, wider → narrower; every permission that is named anywhere is a key."""
    edges: dict[str, set[str]] = {}
    for wider, narrower in zip(permissions.ladder, permissions.ladder[1:], strict=False):
        edges.setdefault(wider, set()).add(narrower)
    for wider, scopes in permissions.implies.items():
        edges.setdefault(wider, set()).update(scopes)
    for scope in (*permissions.ladder, *(s for scopes in permissions.implies.values() for s in scopes)):
        edges.setdefault(scope, set())
    return {scope: frozenset(narrower) for scope, narrower in edges.items()}


def find_cycle(permissions: Permissions) -> tuple[str, ...] | None:
    """Return one circle of permissions (first and last equal) if there is any; always the same one."""
    edges = direct_edges(permissions)
    finished: set[str] = set()
    for start in sorted(edges):
        cycle = _cycle_from(edges, start, finished)
        if cycle:
            return cycle
    return None


def _cycle_from(edges: Mapping[str, frozenset[str]], start: str, finished: set[str]) -> tuple[str, ...] | None:
    trail: dict[str, Iterator[str]] = {}
    following: str | None = start
    while following is not None or trail:
        if following is None:
            finished.add(trail.popitem()[0])
        elif following in trail:
            steps = tuple(trail)
            return (*steps[steps.index(following) :], following)
        elif following not in finished:
            trail[following] = iter(sorted(edges[following]))
        following = next(trail[next(reversed(trail))], None) if trail else None
    return None


def _reachable(edges: Mapping[str, frozenset[str]], start: str) -> frozenset[str]:
    seen = {start}
    waiting = [start]
    while waiting:
        for scope in edges[waiting.pop()] - seen:
            seen.add(scope)
            waiting.append(scope)
    return frozenset(seen)
