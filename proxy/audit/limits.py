"""What a writer may take, and what it has done."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds in time and memory."""

    commit_timeout_s: float = 5.0
    patience_s: float = 10.0
    batch_entries: int = 1_000
    batch_bytes: int = 8 * 1024 * 1024
    queue_entries: int = 10_000
    queue_bytes: int = 64 * 1024 * 1024
    queue_wait_s: float = 1.0
    owed_entries: int = 10_000
    owed_bytes: int = 64 * 1024 * 1024
    drain_s: float = 5.0


@dataclass(slots=True)
class Counters:
    """What this writer has done.

    `answered` is counted by whoever releases answers, so that it can be held against `rows`. `unrecorded`: owed rows
    that found no room; `withheld`: committed, but told 503.
    """

    answered: int = 0
    intents: int = 0
    rows: int = 0
    commits: int = 0
    reduced: int = 0
    conflicts: int = 0
    failed: int = 0
    outages: int = 0
    unrecorded: int = 0
    withheld: int = 0
