"""Whether the fleet is up: a pure judgement of what `fleet status --json` says."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

LOST = frozenset({"failed", "held"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """Members that are not up yet, and those that will not come up by themselves, each with the reason."""

    waiting: dict[str, str]
    lost: dict[str, str]

    @property
    def is_up(self) -> bool:
        return not self.waiting and not self.lost


def judge(status: dict[str, Any], wanted: Iterable[str]) -> Verdict:
    """Compare what runs with the names that must run; before the gate is open, the gate's reason is everybody's."""
    members: dict[str, dict[str, Any]] = {member["name"]: member for member in status["servers"]}
    waiting: dict[str, str] = {}
    lost: dict[str, str] = {}
    for name in wanted:
        member = members.get(name, {})
        if member.get("can_route") and status["gate"]["open"]:
            continue
        words = _words(member, status)
        (lost if member.get("status") in LOST else waiting)[name] = words
    return Verdict(waiting, lost)


def _words(member: dict[str, Any], status: dict[str, Any]) -> str:
    if not status["gate"]["open"]:
        return str(status["gate"]["reason"])
    return " ".join(str(member[key]) for key in ("status", "reason") if member.get(key)) or "not known yet"
