"""The fleet as supervisord and the listener's last heartbeat show it: JSON for `fleet status` and for `GET /fleet`."""

import json
import time
from typing import Any

from supervisor_plugin.supervisord import Process, listener_state_name, state_name
from supervisor_plugin.verdict import is_well
from supervisor_plugin.warden import STALE_AFTER_S, Facts, Warden


def snapshot(warden: Warden) -> dict[str, Any]:
    """Show everything at once. What a silent listener last said is not the truth: its states become `unknown`."""
    age = warden.report_age_s()
    is_fresh = age is not None and age < STALE_AFTER_S
    silence = "" if is_fresh else "the listener is silent"
    body = warden.report.body
    reported: dict[str, dict[str, Any]] = body.get("servers", {})
    programs = {process.config.name: _program(warden, process) for process in warden.programs()}
    names = sorted({*programs, *reported})
    held = {name: {"held_since": facts.held_since} for name, facts in warden.facts.items() if facts.held_since}
    return {
        "now": time.time(),
        "mood": warden.supervisord.options.mood,
        "gate": {"open": warden.gate_open, "reason": warden.gate_reason},
        "listener": _listener(warden, age),
        "fleet": body.get("fleet", {}),
        "servers": [
            {**_server(name, programs.get(name, {}), reported.get(name), silence), **held.get(name, {})}
            for name in names
        ],
    }


def _program(warden: Warden, process: Process) -> dict[str, Any]:
    facts = warden.facts.get(process.config.name, Facts())
    return {
        "supervised": True,
        "program_state": state_name(process.state),
        "pid": process.pid,
        "ticks": facts.ticks if process.pid else 0,
        "started_at": process.laststart,
        "spawn_error": process.spawnerr or "",
        "wait_status": facts.wait_status,
        "exited_at": facts.exited_at,
        "held_since": facts.held_since,
    }


def _server(name: str, program: dict[str, Any], reported: dict[str, Any] | None, silence: str) -> dict[str, Any]:
    return {"name": name, **program, **_said(reported, silence or _overtaken(reported, program))}


def _overtaken(reported: dict[str, Any] | None, program: dict[str, Any]) -> str:
    """Say why the listener's last word is no longer true: it was about a process that supervisord has seen end."""
    meant = (reported or {}).get("of_pid")
    if not program or meant is None or meant == program["pid"]:
        return ""
    return f"pid {meant} has ended; the listener has not said yet what follows"


def _said(reported: dict[str, Any] | None, silence: str) -> dict[str, Any]:
    if reported is not None and not silence:
        return reported
    reason = silence or "the listener does not look after it yet"
    return {**(reported or {}), "status": "unknown", "health": "unknown", "can_route": False, "reason": reason}


def _listener(warden: Warden, age: float | None) -> dict[str, Any]:
    process = warden.listener()
    group = warden.supervisord.process_groups.get(warden.listener_group)
    return {
        "ok": warden.listener_is_well(),
        "pid": process.pid if process else 0,
        "state": state_name(process.state) if process else "MISSING",
        "protocol": listener_state_name(process.listener_state) if process else "",
        "spawn_error": (process.spawnerr or "") if process else "",
        "report_age_s": age,
        "queued_events": len(group.event_buffer) if group else 0,
        "buffer_size": group.config.buffer_size if group else 0,
    }


class HealthPage:
    """`GET /fleet` on supervisord's own socket, for probes: 200 when all is well, else 503."""

    IDENT = "Postern fleet health"

    def __init__(self, warden: Warden) -> None:
        self.warden = warden

    def match(self, request: Any) -> bool:
        return str(request.uri).partition("?")[0] == "/fleet"

    def handle_request(self, request: Any) -> None:
        status = snapshot(self.warden)
        body = json.dumps({"ok": is_well(status), **status}).encode()
        request.reply_code = 200 if is_well(status) else 503
        request["Content-Type"] = "application/json"
        request["Content-Length"] = len(body)
        request.push(body)
        request.done()
