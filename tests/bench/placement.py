"""Which processes may use which processor, so that a target is measured on one core and nothing else runs there."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Placement:
    """`target` for the process under test, `rest` for load, upstream and PostgreSQL; the same set where nothing is pinned."""

    target: frozenset[int]
    rest: frozenset[int]

    @classmethod
    def choose(cls, *, pinned: bool) -> "Placement":
        """Return one core each; all of them for both where that is not wanted or there is only one."""
        allowed = sorted(os.sched_getaffinity(0))
        if not pinned or len(allowed) < 2:
            return cls(frozenset(allowed), frozenset(allowed))
        return cls(frozenset(allowed[:1]), frozenset(allowed[1:2]))

    @property
    def is_pinned(self) -> bool:
        return self.target != self.rest


@contextlib.contextmanager
def on(cpus: frozenset[int]) -> Iterator[None]:
    """Whatever is started inside runs there, for good."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
