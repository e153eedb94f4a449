"""What operators ask through supervisorctl, answered with data that supervisorctl shows as a table or as JSON."""

import re
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, cast

from supervisor_plugin import ports
from supervisor_plugin.client import SupervisordError
from supervisor_plugin.controller import Controller
from supervisor_plugin.keeper import Keeper
from supervisor_plugin.ledger import LedgerAwayError
from supervisor_plugin.names import PROXY
from supervisor_plugin.states import Event, Restart, Start, Status, Stop
from supervisor_plugin.tables import span

DAY_S = 86_400.0
HISTORY = 20
_SPAN = re.compile(r"(\d{1,6})([smhdw])")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": DAY_S, "w": 7 * DAY_S}

_OVERTAKEN = "another command came after this one"

Answer = dict[str, Any]


class BadRequestError(ValueError):
    """The operator asked for something that cannot be; the text says what can."""


async def answer(controller: Controller, request: dict[str, Any]) -> Answer:
    """Do what a request says and return `ok`, `message` and `data`; refusals are answers, too."""
    operations: dict[str, Callable[[], Coroutine[Any, Any, Answer]]] = {
        "start": lambda: _start(controller, _keepers(controller, request)),
        "stop": lambda: _stop(controller, _keepers(controller, request)),
        "restart": lambda: _restart(controller, _keepers(controller, request)),
        "reconcile": lambda: _reconcile(controller),
        "health": lambda: _health(controller, parse_span(request.get("since") or "1d")),
        "explain": lambda: _explain(controller, _keepers(controller, {"names": [request.get("name")]})[0]),
    }
    try:
        if request["op"] not in operations:
            raise BadRequestError(f"there is no operation {request['op']}")
        data = await operations[request["op"]]()
    except (BadRequestError, SupervisordError, LedgerAwayError) as error:
        return {"ok": False, "message": str(error), "data": {}}
    failed = [f"{item['name']}: {item['message']}" for item in data.get("results", ()) if not item["ok"]]
    # supervisorctl's own verbs know only success and failure; `fleet` shows each server's result.
    return {"ok": not (failed and request.get("strict")), "message": "; ".join(failed), "data": data}


def parse_span(text: str) -> float:
    """Read `90m`, `12h`, `7d`: seconds."""
    match = _SPAN.fullmatch(text.strip())
    if match is None or int(match[1]) == 0:
        raise BadRequestError(f"{text!r} is no span of time; write 90m, 12h or 7d")
    return int(match[1]) * _SECONDS[match[2]]


def _keepers(controller: Controller, request: dict[str, Any]) -> list[Keeper]:
    asked: Any = request.get("names")
    if not isinstance(asked, list):
        raise BadRequestError("name the servers in a list; an empty one means all")
    names = [str(name) for name in cast("list[Any]", asked)] or [n for n in controller.keepers if n != PROXY]
    unknown = [name for name in names if name not in controller.keepers]
    if unknown:
        known = ", ".join(sorted(controller.keepers)) or "none"
        raise BadRequestError(f"no member of the fleet is called {', '.join(unknown)}; there are: {known}")
    return [controller.keepers[name] for name in names]


async def _start(controller: Controller, keepers: list[Keeper]) -> Answer:
    if controller.closed is not None:
        raise BadRequestError(f"the gate is closed: {controller.closed}")
    return await _command(controller, keepers, Start(by_operator=True), is_held=False)


async def _stop(controller: Controller, keepers: list[Keeper]) -> Answer:
    return await _command(controller, keepers, Stop(), is_held=True)


async def _restart(controller: Controller, keepers: list[Keeper]) -> Answer:
    if controller.closed is not None:
        raise BadRequestError(f"the gate is closed: {controller.closed}")
    return await _command(controller, keepers, Restart("restarted by an operator"), is_held=False)


async def _command(controller: Controller, keepers: list[Keeper], event: Event, *, is_held: bool) -> Answer:
    for keeper in keepers:
        await controller.client.hold(keeper.unit.name, held=is_held)
        keeper.command(event)
    wanted = Status.STOPPED if is_held else Status.RUNNING
    results: list[Answer] = []
    for keeper in keepers:
        state = await keeper.settled()
        ok = state.status is wanted
        how = (
            "stopped"
            if ok and is_held
            else f"running, {state.health}"
            if ok
            else f"{state.status}: {state.reason or _OVERTAKEN}"
        )
        results.append({"name": keeper.unit.name, "ok": ok, "message": how})
    return {"ok": all(result["ok"] for result in results), "results": results}


async def _reconcile(controller: Controller) -> Answer:
    if controller.is_stopping:
        raise BadRequestError("supervisord is stopping")
    results = await controller.reconcile(revives=True)
    return {"ok": all(result["ok"] for result in results), "results": results}


async def _health(controller: Controller, span_s: float) -> Answer:
    try:
        downtime, trouble = await controller.ledger.downtime(span_s), ""
    except LedgerAwayError as error:  # what the checks say is not in the database
        downtime, trouble = {}, str(error)
    servers = [
        {"name": name, **controller.summary(keeper), **downtime.get(name, {})}
        for name, keeper in sorted(controller.keepers.items())
    ]
    return {"now": time.time(), "span_s": span_s, "database": trouble, "servers": servers}


async def _explain(controller: Controller, keeper: Keeper) -> Answer:
    try:
        history = await controller.ledger.history(keeper.unit.name, HISTORY)
    except LedgerAwayError:
        history = []
    return {"name": keeper.unit.name, "now": time.time(), "facts": _facts(controller, keeper), "history": history}


def _facts(controller: Controller, keeper: Keeper) -> list[tuple[str, str]]:
    state, unit, report = keeper.state, keeper.unit, keeper.report
    facts = [
        ("server", f"{unit.name} ({unit.kind})"),
        ("state", f"{state.status}, {state.health}, since {_when(keeper.since)}"),
        ("why", state.reason or "-"),
        ("next", _next(keeper)),
        ("routed", "yes" if state.can_route else f"no, since {_when(keeper.down_since)}"),
        ("gate", "open" if controller.closed is None else f"closed: {controller.closed}"),
        ("process", f"pid {state.process.pid}" if state.process else "none"),
    ]
    if unit.port is not None:
        facts.append(("port", f"{unit.port}, {_port_holder(unit.port, keeper)}"))
    if unit.command:
        facts.append(("command", " ".join(unit.command)))
    facts.append(
        ("checks", f"every {unit.policy.interval_s:g} s, restart after {unit.policy.failures} failures in a row")
    )
    if unit.name in controller.drift:
        facts.append(("contract", controller.drift[unit.name]))
    if report is not None:
        versions = ", ".join(report.protocol_versions) or "-"
        facts.append(("answers", f"{report.latency_ms:.1f} ms, {report.tool_count} tools, protocol {versions}"))
    facts.append(("restarts", f"{state.restarts}; {len(state.crashes)} recent failures of {unit.policy.crash_limit}"))
    facts.append(("log", str(controller.settings.paths.logs / f"{unit.name}.log")))
    return facts


def _port_holder(port: int, keeper: Keeper) -> str:
    found = ports.holder(port)
    if found is None:
        return "nobody listens"
    return f"held by {found}" + ("" if keeper.state.process is not None else ", which is not this server")


def _next(keeper: Keeper) -> str:
    state = keeper.state
    left = max(0.0, state.deadline - time.monotonic()) if state.deadline is not None else 0.0
    match state.status:
        case Status.RUNNING:
            return "checked again regularly"
        case Status.CRASHED | Status.FAILED if state.deadline is not None:
            return f"started again in {span(left)}"
        case Status.HELD:
            return f"stays down until `fleet start {keeper.unit.name}`"
        case Status.STOPPED:
            return "stays down until an operator starts it" if not state.wanted else "started soon"
        case Status.FAILED:
            return "checked again regularly" if keeper.unit.kind == "external" else "needs an operator"
        case _:
            return f"on its way, at most {span(left)} more"


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
