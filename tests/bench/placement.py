"""Which processes may use which processor, so that a target is measured on one core and nothing else runs there."""

import contextlib
import os
from collections.abc import Generator, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Placement:
    """`target` for the process under test, `rest` for load, upstream and PostgreSQL; `both` where nothing is pinned."""

    target: frozenset[int]
    rest: frozenset[int]

    @classmethod
    def choose(cls, *, pinned: bool) -> "Placement":
        """Return one core each; two for both where that is not wanted, and what there is where there is one only."""
        allowed = sorted(os.sched_getaffinity(0))[:2]
        if not pinned or len(allowed) < 2:
            return cls(frozenset(allowed), frozenset(allowed))
        return cls(frozenset(allowed[:1]), frozenset(allowed[1:]))

    @property
    def both(self) -> frozenset[int]:
        return self.target | self.rest

    @property
    def is_pinned(self) -> bool:
        return self.target != self.rest


@contextlib.contextmanager
def on(cpus: frozenset[int]) -> Generator[None]:
    """Whatever is started inside runs there, for good."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def released(pids: Iterable[int], cpus: frozenset[int]) -> Generator[None]:
    """Inside, these processes may run on any of `cpus`."""
    before = {pid: os.sched_getaffinity(pid) for pid in pids}
    _move(dict.fromkeys(before, cpus))
    try:
        yield
    finally:
        _move(before)


def _move(places: "dict[int, frozenset[int]] | dict[int, set[int]]") -> None:
    for pid, cpus in places.items():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(pid, cpus)
