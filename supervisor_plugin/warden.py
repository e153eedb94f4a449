"""The plugin's memory inside supervisord: who may spawn, what exited how, what the listener last said.

It owns mechanism, never policy: the listener decides, this refuses every spawn that the listener did not ask for. It
does no I/O but `/proc`, starts no thread, never blocks, and never raises into supervisord, which an exception in a
callback would end.
"""

import functools
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Concatenate, ParamSpec

from supervisor_plugin.deferred import Requests
from supervisor_plugin.names import LISTENER, PROXY
from supervisor_plugin.processes import SERVER_MARK, start_ticks
from supervisor_plugin.supervisord import (
    FATAL,
    LISTENER_BUSY,
    LISTENER_READY,
    LISTENER_UNKNOWN,
    MOOD_RUNNING,
    RUNNING,
    STARTING,
    STOPPED,
    Process,
    Supervisord,
    is_stopped,
    subscribe,
)
from supervisor_plugin.waker import Waker

P = ParamSpec("P")
STALE_AFTER_S = 15.0


def quiet(callback: Callable[Concatenate["Warden", P], None]) -> Callable[Concatenate["Warden", P], None]:
    """Log what goes wrong instead of raising it into supervisord's loop."""

    @functools.wraps(callback)
    def call(self: "Warden", *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(self, *args, **kwargs)
        except Exception:  # noqa: BLE001 - anything that escapes here ends supervisord and orphans the fleet
            self.journal.critical(f"postern: {traceback.format_exc()}")

    return call


@dataclass(slots=True)
class Facts:
    """What supervisord knows of one program and does not tell in its events."""

    ticks: int = 0
    wait_status: int | None = None
    exited_at: float | None = None
    held_since: float | None = None


@dataclass(slots=True)
class Report:
    """The listener's last heartbeat: its servers as it sees them, and whether the gate is open."""

    pid: int = 0
    sequence: int = 0
    at: float = 0.0
    body: dict[str, Any] = field(default_factory=dict[str, Any])


class Warden:
    """One per Supervisor object. Programs are ours when their configured environment carries the server marker."""

    def __init__(self, supervisord: Supervisord) -> None:
        self.supervisord = supervisord
        self.journal = supervisord.options.logger
        self.listener_group = LISTENER
        self.watchdog_s = 20.0
        self.gate_open = False
        self.gate_reason = "the fleet listener has not opened it yet"
        self.report = Report()
        self.requests = Requests()
        self.facts: dict[str, Facts] = {}
        self.waker: Waker | None = None
        self._permits: set[str] = set()
        self._ours_to_stop: set[str] = set()
        subscribe("ProcessGroupAddedEvent", self._group_added)
        subscribe("SupervisorRunningEvent", self._running)
        subscribe("SupervisorStoppingEvent", self._stopping)
        subscribe("Tick5Event", self._watch)

    # Programs

    def programs(self) -> Iterator[Process]:
        """Every program that the generator wrote."""
        for group in self.supervisord.process_groups.values():
            for process in group.processes.values():
                if SERVER_MARK in (process.config.environment or {}):
                    yield process

    def program(self, name: str) -> Process | None:
        """Return the managed program of this name; its group has the same name."""
        return next((process for process in self.programs() if process.config.name == name), None)

    @quiet
    def _running(self, _event: object) -> None:
        # Groups of the configuration file were announced before any plugin existed; nothing has been spawned yet.
        for process in self.programs():
            self._guard(process)

    @quiet
    def _group_added(self, _event: object) -> None:
        for process in self.programs():
            self._guard(process)

    def _guard(self, process: Process) -> None:
        guarded: Any = process
        if hasattr(guarded, "postern_guarded"):
            return
        guarded.postern_guarded = True
        process.config.autostart = process.config.autorestart = False
        name, spawn, stop, finish = process.config.name, process.spawn, process.stop, process.finish

        def permitted_spawn() -> int | None:
            return self._spawn(process, spawn)

        def observed_stop() -> str | None:
            # Whichever door it came through, that of the web pages included: from now on, not only from its end.
            if name not in self._ours_to_stop and self.supervisord.options.mood == MOOD_RUNNING:
                self.hold(name)
            return stop()

        def observed_finish(pid: int, status: int) -> None:
            self._ours_to_stop.discard(name)
            finish(pid, status)
            self._finished(name, status)

        process.spawn, process.stop, process.finish = permitted_spawn, observed_stop, observed_finish

    def _spawn(self, process: Process, spawn: Callable[[], int | None]) -> int | None:
        name = process.config.name
        if name not in self._permits:
            process.spawnerr = f"refused: only the fleet listener starts {name} (gate {self.gate_word()})"
            self.journal.warn(process.spawnerr)
            return None
        self._permits.discard(name)
        pid = spawn()
        if pid:
            self.facts[name] = Facts(ticks=start_ticks(pid))
        return pid

    @quiet
    def _finished(self, name: str, status: int) -> None:
        facts = self.facts.setdefault(name, Facts())
        facts.wait_status, facts.exited_at = status, time.time()
        if name == PROXY and self.supervisord.options.mood < MOOD_RUNNING:
            self._stop_all()

    def gate_word(self) -> str:
        return "open" if self.gate_open else f"closed: {self.gate_reason}"

    # The operator's will: it outlives the listener, not supervisord

    def hold(self, name: str) -> None:
        """Remember that an operator stopped it: nobody starts it again until an operator does."""
        facts = self.facts.setdefault(name, Facts())
        if facts.held_since is None:
            facts.held_since = time.time()

    def release(self, name: str) -> None:
        """Forget that an operator stopped it."""
        self.facts.setdefault(name, Facts()).held_since = None

    # What the listener may do

    def permit(self, name: str) -> None:
        """Allow one spawn of this program; `revoke` takes back what was not used."""
        self._permits.add(name)

    def revoke(self, name: str) -> None:
        self._permits.discard(name)

    def stop(self, process: Process) -> str | None:
        """Stop it in the listener's name: TERM to its group now, KILL after its `stopwaitsecs`."""
        self._ours_to_stop.add(process.config.name)
        return process.stop()

    def accept(self, body: dict[str, Any]) -> bool:
        """Take a heartbeat, unless a newer one of the same listener overtook it."""
        pid, sequence = int(body["pid"]), int(body["sequence"])
        if pid == self.report.pid and sequence <= self.report.sequence:
            return False
        self.report = Report(pid, sequence, time.monotonic(), body)
        if self.supervisord.options.mood == MOOD_RUNNING:
            self.gate_open, self.gate_reason = bool(body["gate"]["open"]), str(body["gate"]["reason"])
        return True

    # The listener

    def listener(self) -> Process | None:
        group = self.supervisord.process_groups.get(self.listener_group)
        return next(iter(group.processes.values())) if group else None

    def listener_pid(self) -> int:
        process = self.listener()
        return process.pid if process else 0

    def report_age_s(self) -> float | None:
        """Seconds since the last heartbeat of the listener that runs now; None if it has sent none."""
        if not self.report.pid or self.report.pid != self.listener_pid():
            return None
        return time.monotonic() - self.report.at

    def listener_is_well(self) -> bool:
        """Whether a request to it would be answered; in its first second: as soon as supervisord hands it over."""
        process, age = self.listener(), self.report_age_s()
        return (
            process is not None
            and process.state in (STARTING, RUNNING)
            and process.listener_state in (LISTENER_READY, LISTENER_BUSY)
            and age is not None
            and age < STALE_AFTER_S
        )

    @quiet
    def _watch(self, _event: object) -> None:
        """End a listener that is alive and useless: its protocol broken, hung, or given up by supervisord."""
        self.requests.prune()
        process = self.listener()
        if process is None or self.supervisord.options.mood < MOOD_RUNNING:
            return
        if process.state == FATAL:
            self.journal.critical("postern: supervisord had given up the fleet listener; starting it again")
            process.spawn()
        elif process.state == RUNNING and process.pid and (why := self._what_is_wrong(process)):
            self.journal.critical(f"postern: killing the fleet listener, pid {process.pid}: {why}")
            process.signal(signal.SIGKILL)  # `kill` would mean "stopped by an operator", and nobody would restart it

    def _what_is_wrong(self, process: Process) -> str | None:
        if process.listener_state == LISTENER_UNKNOWN:
            return "it broke the event protocol"
        age = self.report_age_s()
        silent_s = age if age is not None else time.time() - process.laststart
        return f"no heartbeat for {silent_s:.0f} s" if silent_s > self.watchdog_s else None

    # The end

    @quiet
    def _stopping(self, _event: object) -> None:
        """Close the gate; the proxy drains first, then everything stops at once and not group after group."""
        self.gate_open, self.gate_reason = False, "supervisord is stopping"
        self._permits.clear()
        proxy = self.program(PROXY)
        if proxy is not None and not is_stopped(proxy):
            proxy.stop()
        else:
            self._stop_all()

    def _stop_all(self) -> None:
        for process in self.programs():
            if process.pid and process.state != STOPPED and not process.killing:
                process.stop()


def warden_of(supervisord: Supervisord) -> Warden:
    """Return the one warden of this Supervisor object: factories run once per HTTP server, and again after a reload."""
    owner: Any = supervisord
    if not hasattr(owner, "postern_warden"):
        owner.postern_warden = Warden(supervisord)
    return owner.postern_warden
