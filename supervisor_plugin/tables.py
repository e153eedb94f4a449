"""The fleet as text for a tired person: pure functions from JSON values to lines."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

WHY_CHARS = 200
_UNITS = ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"))


def span(seconds: float) -> str:
    """Say a duration with its two largest units: `3d4h`, `12m5s`, `8s`."""
    whole = max(0, int(seconds))
    for size, unit, smaller, smaller_unit in _UNITS:
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size}{unit}" + (f"{rest}{smaller_unit}" if rest else "")
    return f"{whole}s"


def clock(at: float, now: float) -> str:
    """Say when, in UTC; the date only if it was more than a day ago."""
    form = "%H:%M:%S" if now - at < 86_400 else "%Y-%m-%d %H:%M"
    return datetime.fromtimestamp(at, UTC).strftime(form)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Align columns; the first row is the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def render_status(status: dict[str, Any]) -> str:
    """Show gate, listener, and one line for each server."""
    now = status["now"]
    head = ("NAME", "STATE", "HEALTH", "PID", "UPTIME", "FAILS", "DOWN SINCE", "SESS", "CALLS", "WHY")
    rows = [head, *(_status_row(server, now) for server in status["servers"])]
    return "\n".join([*_headlines(status), "", table(rows)])


def _headlines(status: dict[str, Any]) -> list[str]:
    gate, listener, fleet = status["gate"], status["listener"], status.get("fleet", {})
    lines = [f"gate      {'open' if gate['open'] else 'CLOSED'}: {gate['reason']}"]
    age = listener["report_age_s"]
    said = "never reported" if age is None else f"reported {age:.1f} s ago"
    lines.append(
        f"listener  {listener['state']} {listener['protocol']} pid {listener['pid']}, {said}, "
        f"{listener['queued_events']} of {listener['buffer_size']} events queued"
    )
    if not listener["ok"] and listener.get("spawn_error"):
        lines.append(f"          it cannot be started: {listener['spawn_error']}")
    lines += [f"{key:<9} {fleet[key]}" for key in ("registry", "database") if fleet.get(key)]
    return lines


def _status_row(server: dict[str, Any], now: float) -> tuple[str, ...]:
    pid, started = server.get("pid"), server.get("started_at")
    down = server.get("down_since")
    return (
        server["name"],
        str(server.get("status", "-")),
        str(server.get("health", "-")),
        str(pid or "-"),
        span(now - started) if pid and started else "-",
        str(server.get("failures", 0)),
        clock(down, now) if down else "-",
        _count(server.get("sessions")),
        _count(server.get("calls")),
        "; ".join(str(server[key])[:WHY_CHARS] for key in ("reason", "drift") if server.get(key)),
    )


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)


def render_health(health: dict[str, Any]) -> str:
    """Show what the checks said, and how long each server was down in the span."""
    head = ("NAME", "HEALTH", "CHECKED", "LATENCY", "FAILS", "TOOLS", "PROTOCOLS", "DOWN", "TIMES", "UP", "WHY")
    rows = [head, *(_health_row(server, health["now"], health["span_s"]) for server in health["servers"])]
    trouble = [f"database  {health['database']}; downtime is not known now"] if health.get("database") else []
    return "\n".join([f"the last {span(health['span_s'])}", *trouble, "", table(rows)])


def _health_row(server: dict[str, Any], now: float, span_s: float) -> tuple[str, ...]:
    checked, latency, observed = server.get("checked_at"), server.get("latency_ms"), server.get("observed_s") or 0.0
    down = min(server.get("down_s") or 0.0, span_s)
    return (
        server["name"],
        server["health"],
        f"{span(now - checked)} ago" if checked else "-",
        f"{latency:.1f} ms" if latency is not None else "-",
        str(server.get("failures", 0)),
        _count(server.get("tool_count")),
        ",".join(server.get("protocol_versions") or ()) or "-",
        span(down) if down else "-",
        _count(server.get("outages")),
        f"{100 * (1 - down / observed):.2f} %" if observed > 0 else "-",
        str(server.get("reason") or ""),
    )


def render_actions(data: dict[str, Any]) -> str:
    """Show what was done to which server, one line each."""
    lines = [f"{item['name']}: {item['message']}" for item in data["results"]]
    return "\n".join(
        lines or ["nothing to do: what runs is what is declared (whether the proxy took its part: fleet status)"]
    )


def render_explanation(data: dict[str, Any]) -> str:
    """Show one server in full: facts, then its history, newest last."""
    width = max(len(key) for key, _ in data["facts"])
    facts = [f"{key.ljust(width)}  {value}" for key, value in data["facts"]]
    history = [_event_line(event, data["now"]) for event in data["history"]]
    return "\n".join([*facts, *(["", "history (UTC)", *history] if history else [])])


def _event_line(event: dict[str, Any], now: float) -> str:
    words = f"{event['status']:<10} {event['health']:<10} {event['reason'] or ''}"
    return f"  {clock(event['at'], now)}  {words}".rstrip()
