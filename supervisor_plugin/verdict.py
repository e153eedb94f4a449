"""When a fleet counts as well; shared by supervisord, supervisorctl and the listener."""

from typing import Any


def is_well(status: dict[str, Any]) -> bool:
    """Whether all that should run can be called; a server that an operator stopped is as it should be."""
    return bool(
        status["gate"]["open"]
        and status["listener"]["ok"]
        and all(server.get("can_route") or server.get("held_since") for server in status["servers"])
    )
