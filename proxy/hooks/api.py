"""What a hook is given and what it may answer (docs/hooks.md). All values are its own copies."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

EventName = Literal["PreToolUse", "PostToolUse", "PostToolUseFailure"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: empty texts for an anonymous caller."""

    subject: str = ""
    issuer: str = ""
    client: str = ""
    agent: str = ""


@dataclass(frozen=True, slots=True)
class HookEvent:
    """One moment of one call. `result` is the tool's after it ran, `error` a sentence where it failed."""

    event: EventName
    server: str
    tool: str
    arguments: dict[str, Any]
    caller: Caller
    execution_id: str
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    result: dict[str, Any] | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Before: the tool does not run. After: its result is withheld. The caller and the row get the reason."""

    reason: str
    retry_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Before: the tool runs with these arguments."""

    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Replace:
    """After: the caller gets this result."""

    result: dict[str, Any]


Answer = Refuse | Rewrite | Replace | None
