"""Whether the fleet is up: a pure judgement of what `fleet status --json` says."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

LOST = frozenset({"failed", "held"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """Members that are not up yet, and those that will not come up by themselves, each with the reason.

    `gate` is why nothing may start at all, None once it is open; `is_led` says whether the listener answers.
    """

    waiting: dict[str, str]
    lost: dict[str, str]
    gate: str | None = None
    is_led: bool = True

    @property
    def is_up(self) -> bool:
        return not self.waiting and not self.lost


def judge(status: dict[str, Any], wanted: Iterable[str]) -> Verdict:
    """Compare what runs with the names that must run; nobody is up before the gate is open.

    What was refused for a reason outside the server, such as a database that is slow to answer, is tried again soon.
    """
    members: dict[str, dict[str, Any]] = {member["name"]: member for member in status["servers"]}
    gate = None if status["gate"]["open"] else str(status["gate"]["reason"])
    waiting: dict[str, str] = {}
    lost: dict[str, str] = {}
    for name in wanted:
        member = members.get(name, {})
        if gate is not None:
            waiting[name] = gate
        elif member.get("status") in LOST and not member.get("refusals"):
            lost[name] = _words(member)
        elif not member.get("can_route"):
            waiting[name] = _words(member)
    return Verdict(waiting, lost, gate, bool(status["listener"]["ok"]))


def _words(member: dict[str, Any]) -> str:
    return " ".join(str(member[key]) for key in ("status", "reason") if member.get(key)) or "not known yet"
