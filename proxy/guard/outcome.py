"""What a guard says about an answer: how it may go on, and what its row should tell."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with an answer. `is_withheld`: the caller gets an error in its place, and the row this code."""

    code: str
    reason: str
    is_withheld: bool = False


@dataclass(frozen=True, slots=True)
class Guarded:
    """An answer as it may go on: `message` is None where it stays as the server sent it."""

    message: dict[str, object] | None = None
    finding: Finding | None = None


PASSED = Guarded()
