"""Looks after one member of the fleet: feeds its life with events, does what it asks for, keeps its row true."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, assert_never

from supervisor_plugin.exchange import ProbeError
from supervisor_plugin.external import step_external
from supervisor_plugin.health import Probe, Report
from supervisor_plugin.ledger import Ledger, Row
from supervisor_plugin.lifecycle import step
from supervisor_plugin.processes import Identity
from supervisor_plugin.states import (
    MOVING,
    Action,
    Adopt,
    Check,
    Confirm,
    Drain,
    Event,
    Exited,
    Failed,
    Health,
    Kill,
    Passed,
    Prepare,
    Spawn,
    Spawned,
    State,
    Status,
    Terminate,
    Tick,
)
from supervisor_plugin.units import Unit
from supervisor_plugin.works import Works

_log = logging.getLogger("postern.keeper")


class Keeper:
    """Everything happens on the event loop; `tell` is synchronous, what takes time runs in tasks that tell again."""

    def __init__(self, unit: Unit, works: Works, ledger: Ledger, on_change: Callable[[], None]) -> None:
        self.unit, self.state = unit, State()
        self._on_change = on_change
        self.binary: str | None = None
        self.report: Report | None = None
        self.since = self.down_since = time.time()
        self.started_at: float | None = None
        self.checked_at: float | None = None
        self.commanded_at = 0.0
        self._works, self._ledger = works, ledger
        self._step = step_external if unit.kind == "external" else step
        self._probe: Probe | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._checking: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._closed = False

    # Events

    def tell(self, event: Event) -> None:
        """Take the next step of its life."""
        if self._closed:
            return
        before = self.state
        self.state, actions = self._step(before, event, time.monotonic(), self.unit.policy)
        if self.state is before and not actions:
            return
        self._stamp(before, event)
        self._set_timer()
        for action in actions:
            self._do(action)
        if self.unit.kind != "proxy":
            self._ledger.record(self.row())
        self._changed.set()
        self._changed = asyncio.Event()
        if (before.status, before.health, before.process) != (self.state.status, self.state.health, self.state.process):
            self._on_change()

    def command(self, event: Event) -> None:
        """Tell it an operator's word, which is newer than anything supervisord was asked before."""
        self.commanded_at = time.monotonic()
        self.tell(event)

    async def settled(self) -> State:
        """Wait until it is no longer on the way anywhere; every way ends by itself."""
        while self.state.status in MOVING:
            await self._changed.wait()
        return self.state

    async def close(self) -> None:
        """Stop looking after it; its process, if any, is left as it is."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        tasks = [*self._tasks, *([self._checking] if self._checking else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._probe is not None:
            await self._probe.close()

    def _stamp(self, before: State, event: Event) -> None:
        now, state = time.time(), self.state
        if state.status is not before.status:
            self.since = now
            _log.info("%s: %s -> %s %s", self.unit.name, before.status, state.status, state.reason)
        if before.can_route and not state.can_route:
            self.down_since = now
        if isinstance(event, Passed | Failed):
            self.checked_at = now
        if state.process is not None and state.process != before.process:
            self.started_at = now
        if state.status not in (Status.RUNNING, Status.CHECKING, Status.DRAINING):
            self._end_checks()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.state.deadline is not None:
            delay = max(0.0, self.state.deadline - time.monotonic()) + 0.001
            self._timer = asyncio.get_running_loop().call_later(delay, self.tell, Tick())

    # Actions

    def _do(self, action: Action) -> None:
        match action:
            case Prepare(turn=turn):
                self._run(self._prepare(turn))
            case Spawn(turn=turn):
                self._run(self._spawn(turn))
            case Check(process=process, delay_s=delay_s):
                self._check_after(process, delay_s)
            case Drain(turn=turn):
                self._run(self._forward(self._works.drain(self.unit, turn)))
            case Terminate(process=process):
                self._run(self._forward(self._works.terminate(self.unit, process)))
            case Kill(process=process):
                self._run(self._forward(self._works.kill(self.unit, process)))
            case Confirm(turn=turn):
                self._run(self._forward(self._works.confirm(self.unit, turn)))
            case _:
                assert_never(action)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The state it served has a deadline: life goes on, and this is the only trace of a mistake of ours.
            _log.error("%s: unexpected %r", self.unit.name, error, exc_info=error)

    async def _forward(self, work: Coroutine[Any, Any, Event | None]) -> None:
        event = await work
        if event is not None:
            self.tell(event)

    async def _prepare(self, turn: int) -> None:
        event, binary = await self._works.prepare(self.unit, turn)
        if binary is not None:
            self.binary = binary
        self.tell(event)

    async def _spawn(self, turn: int) -> None:
        event = await self._works.spawn(self.unit, turn)
        if isinstance(event, Spawned):
            await self._renew_probe()
        self.tell(event)

    async def _renew_probe(self) -> None:
        old, self._probe = self._probe, await asyncio.to_thread(self.unit.make_probe)
        self.report = None
        if old is not None:
            await old.close()

    # Checks

    def _end_checks(self) -> None:
        if self._checking is not None and self._checking is not asyncio.current_task():
            self._checking.cancel()
        self._checking = None

    def _check_after(self, process: Identity | None, delay_s: float) -> None:
        self._end_checks()
        self._checking = asyncio.create_task(self._check(process, delay_s))
        self._checking.add_done_callback(self._done)

    async def _check(self, process: Identity | None, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        try:
            event = await self._checked(process)
        except Exception as error:  # noqa: BLE001 - a mistake of ours must not end the checks for good
            _log.exception("%s: the check itself failed", self.unit.name)
            event = Failed(process, f"the check itself failed: {type(error).__name__}")
        self.tell(event)

    async def _checked(self, process: Identity | None) -> Event:
        if process is not None and (how := await self._works.how_it_ended(self.unit, process)) is not None:
            return Exited(process, how)
        if self._probe is None:
            await self._renew_probe()
        assert self._probe is not None  # noqa: S101 - made just now
        is_starting = self.state.status is Status.CHECKING
        try:
            report = await self._probe.check()
            if process is not None and is_starting:
                await self._works.verify_port(self.unit, process)
        except ProbeError as error:
            reason = await self._works.explain_failure(self.unit, process, str(error)) if is_starting else str(error)
            return Failed(process, reason)
        if is_starting and report.note:
            return Failed(process, report.note)
        self.report = report
        return Passed(process)

    async def replace_unit(self, unit: Unit) -> None:
        """Follow a changed registry: new limits and a new probe now, a new process when the plan says so."""
        if (unit.definition, unit.policy) != (self.unit.definition, self.unit.policy):
            probe, self._probe = self._probe, None
            if probe is not None:
                await probe.close()
        self.unit = unit

    # What was before us

    def finalise(self, reason: str, seen_at: float | None, *, is_held: bool) -> None:
        """Record that what the last row says is over: since it was written, for nobody saw it alive after that."""
        self.since = self.down_since = min(self.since, seen_at or self.since)
        status, health = (Status.STOPPED, Health.UNKNOWN) if is_held else (Status.CRASHED, Health.UNHEALTHY)
        self.state = replace(self.state, status=status, health=health, reason=reason)
        self._ledger.record(replace(self.row(), updated_at=_utc(self.since)))

    def finish(self, reason: str) -> None:
        """Record that it is over, whatever it was doing."""
        before, self.state = self.state, State(turn=self.state.turn, restarts=self.state.restarts, reason=reason)
        self.since = time.time()
        if before.can_route:
            self.down_since = self.since
        self._ledger.record(self.row())

    def adopt(self, process: Identity, binary: str | None) -> None:
        """Take over a process that was started before."""
        self.binary = binary
        self.tell(Adopt(process))

    # What people and the proxy see

    def row(self) -> Row:
        """Return its row for the table `services`."""
        state, report = self.state, self.report
        return Row(
            server=self.unit.name,
            type="external" if self.unit.kind == "external" else "internal",
            status=state.status.value,
            health=state.health.value,
            can_route=state.can_route,
            reason=_clean(state.reason) or None,
            process=state.process,
            port=self.unit.port,
            binary=self.binary,
            failures=state.failures,
            restarts=state.restarts,
            tool_count=report.tool_count if report else None,
            protocol_versions=report.protocol_versions if report else (),
            latency_ms=report.latency_ms if report else None,
            since=_utc(self.since),
            down_since=None if state.can_route else _utc(self.down_since),
            started_at=_utc(self.started_at) if self.started_at and state.process else None,
            checked_at=_utc(self.checked_at) if self.checked_at else None,
            updated_at=datetime.now(UTC),
        )

    def summary(self) -> dict[str, Any]:
        """Return what the heartbeat tells supervisord about it."""
        state, report = self.state, self.report
        summary: dict[str, Any] = {
            "kind": self.unit.kind,
            "of_pid": state.process.pid if state.process else None,
            "status": state.status.value,
            "health": state.health.value,
            "can_route": state.can_route,
            "reason": _clean(state.reason) or (report.note if report else ""),
            "port": self.unit.port,
            "failures": state.failures,
            "refusals": state.refusals,
            "restarts": state.restarts,
            "since": self.since,
            "down_since": None if state.can_route else self.down_since,
            "checked_at": self.checked_at,
        }
        if report is not None:
            summary |= {
                "latency_ms": report.latency_ms,
                "tool_count": report.tool_count,
                "protocol_versions": list(report.protocol_versions),
            }
        return summary


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _clean(text: str) -> str:
    """Keep a reason on one line, of a length that a table can carry, without what PostgreSQL or XML refuse."""
    return "".join(character if character.isprintable() else " " for character in text)[:500]
