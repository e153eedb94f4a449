"""What a tired person reads."""

import pytest

from supervisor_plugin.operators import BadRequestError, parse_span
from supervisor_plugin.tables import clock, render_actions, render_explanation, render_health, render_status, span
from supervisor_plugin.verdict import is_well

NOW = 1_795_408_000.0


def status(**server: object) -> dict[str, object]:
    alpha = {
        "name": "alpha", "status": "running", "health": "healthy", "pid": 42, "started_at": NOW - 3700,
        "failures": 0, "down_since": None, "can_route": True, "sessions": 3, "calls": 1, "reason": "",
    }  # fmt: skip
    return {
        "now": NOW,
        "gate": {"open": True, "reason": "the registry passed every check"},
        "listener": {
            "ok": True, "pid": 7, "state": "RUNNING", "protocol": "READY", "report_age_s": 0.4, "queued_events": 0,
            "buffer_size": 10000,
        },
        "fleet": {"registry": "", "database": ""},
        "servers": [{**alpha, **server}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (60, "1m"), (61, "1m1s"), (3600, "1h"), (3725, "1h2m"), (90_000, "1d1h"), (-5, "0s")],
)
def test_spans_have_their_two_largest_units(seconds: float, text: str):
    assert span(seconds) == text


def test_a_healthy_fleet_is_one_line_a_server():
    assert render_status(status()).splitlines()[-2:] == [
        "NAME   STATE    HEALTH   PID  UPTIME  FAILS  DOWN SINCE  SESS  CALLS  WHY",
        "alpha  running  healthy  42   1h1m    0      -           3     1",
    ]


def test_an_unhealthy_server_says_since_when_and_why():
    shown = render_status(
        status(status="crashed", health="unhealthy", pid=0, can_route=False, failures=3, down_since=NOW - 60,
               reason="unhealthy, 3 checks in a row: no answer within 5 s")
    )  # fmt: skip
    assert f"{clock(NOW - 60, NOW)}" in shown
    assert shown.endswith("unhealthy, 3 checks in a row: no answer within 5 s")


def test_what_is_not_as_pinned_stands_beside_why():
    shown = render_status(status(drift="withheld: tool read_note changed: description changed"))
    assert shown.endswith("withheld: tool read_note changed: description changed")


def test_a_listener_that_cannot_be_started_says_why():
    seen = status()
    seen["listener"] = {
        "ok": False, "pid": 0, "state": "BACKOFF", "protocol": "ACKNOWLEDGED", "report_age_s": None,
        "queued_events": 7, "buffer_size": 10000, "spawn_error": "can't execute: ENOENT",
    }  # fmt: skip
    assert "never reported" in render_status(seen)
    assert "it cannot be started: can't execute: ENOENT" in render_status(seen)


def test_a_closed_gate_a_refused_registry_and_an_absent_database_are_in_the_headlines():
    seen = status()
    seen["gate"] = {"open": False, "reason": "registry refused: postern.yaml:3:1"}
    seen["fleet"] = {"registry": "refused", "database": "PostgreSQL is away"}
    lines = render_status(seen).splitlines()
    assert lines[0] == "gate      CLOSED: registry refused: postern.yaml:3:1"
    assert lines[2:4] == ["registry  refused", "database  PostgreSQL is away"]


@pytest.mark.parametrize(
    ("changes", "well"),
    [({}, True), ({"can_route": False}, False), ({"can_route": False, "held_since": NOW}, True)],
)
def test_a_fleet_is_well_when_all_that_should_run_can_be_called(changes: dict[str, object], well: bool):
    assert is_well(status(**changes)) is well


def test_times_of_another_day_have_a_date():
    assert clock(NOW - 60, NOW) == "04:25:40"
    assert clock(NOW - 200_000, NOW).startswith("2026-11-2")


def test_health_tells_downtime_and_share():
    server = {
        "name": "alpha", "health": "healthy", "checked_at": NOW - 3, "latency_ms": 12.34, "failures": 0, "tool_count": 2,
        "protocol_versions": ["2026-07-28"], "observed_s": 1000.0, "down_s": 10.0, "outages": 2, "reason": "",
    }  # fmt: skip
    line = render_health({"now": NOW, "span_s": 86_400, "servers": [server]}).splitlines()[-1]
    assert line.split() == [
        "alpha",
        "healthy",
        "3s",
        "ago",
        "12.3",
        "ms",
        "0",
        "2",
        "2026-07-28",
        "10s",
        "2",
        "99.00",
        "%",
    ]


def test_a_plan_without_steps_says_so():
    assert render_actions({"results": []}) == (
        "nothing to do: what runs is what is declared (whether the proxy took its part: fleet status)"
    )
    assert render_actions({"results": [{"name": "a", "message": "stopped"}]}) == "a: stopped"


def test_an_explanation_ends_with_the_history():
    event = {"at": NOW - 5, "status": "running", "health": "healthy", "reason": None}
    shown = render_explanation({"now": NOW, "facts": [["state", "running"], ["why", "-"]], "history": [event]})
    assert shown.splitlines() == ["state  running", "why    -", "", "history (UTC)", "  04:26:35  running    healthy"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("12h", 43_200), ("7d", 604_800), ("2w", 1_209_600), ("5s", 5)]
)
def test_spans_are_read(text: str, seconds: float):
    assert parse_span(text) == seconds


@pytest.mark.parametrize("text", ["", "0d", "soon", "7", "-1h", "1y", "1h30m"])
def test_other_spans_are_refused_with_examples(text: str):
    with pytest.raises(BadRequestError, match="90m, 12h or 7d"):
        parse_span(text)
