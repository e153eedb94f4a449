"""When the fleet counts as up."""

from typing import Any

import pytest

from supervisor_plugin.up.readiness import judge


def status(*members: dict[str, Any], is_open: bool = True, is_led: bool = True) -> dict[str, Any]:
    return {
        "gate": {"open": is_open, "reason": "the gate's words"},
        "listener": {"ok": is_led},
        "servers": list(members),
    }


def member(name: str, state: str = "running", reason: str = "", *, can_route: bool = True) -> dict[str, Any]:
    return {"name": name, "status": state, "reason": reason, "can_route": can_route}


def test_fleet_is_up_when_all_that_is_wanted_can_be_called() -> None:
    """What is not wanted (an external server) may be away."""
    verdict = judge(status(member("a"), member("b"), member("c", "failed", can_route=False)), ["a", "b"])
    assert verdict.is_up


@pytest.mark.parametrize("state", ["failed", "held"])
def test_server_that_will_not_come_up_by_itself_is_lost(state: str) -> None:
    """Nobody waits for it."""
    verdict = judge(status(member("a"), member("b", state, "exit 5", can_route=False)), ["a", "b"])
    assert verdict.lost == {"b": f"{state} exit 5"}
    assert not verdict.is_up


def test_start_that_was_refused_for_the_databases_sake_is_waited_for() -> None:
    """On a slow machine it answers a moment later, and the listener tries again by itself."""
    verdict = judge(status(member("b", "failed", "not without the database", can_route=False) | {"refusals": 1}), ["b"])
    assert verdict.waiting == {"b": "failed not without the database"}
    assert verdict.lost == {}


@pytest.mark.parametrize("state", ["preparing", "spawning", "checking", "crashed"])
def test_server_on_its_way_is_waited_for(state: str) -> None:
    """A crash at start is tried again by the listener."""
    verdict = judge(status(member("b", state, can_route=False)), ["b"])
    assert verdict.waiting == {"b": state}
    assert verdict.lost == {}


def test_nobody_is_up_before_the_gate_is_open() -> None:
    """Not even a server that an earlier listener left running."""
    verdict = judge(status(member("a"), is_open=False), ["a"])
    assert verdict.waiting == {"a": "the gate's words"}
    assert verdict.gate == "the gate's words"


def test_unknown_server_is_waited_for() -> None:
    """supervisord has not read its file yet."""
    assert judge(status(), ["a"]).waiting == {"a": "not known yet"}


def test_silent_listener_is_told() -> None:
    """Then a shorter limit holds."""
    assert not judge(status(is_led=False), []).is_led
