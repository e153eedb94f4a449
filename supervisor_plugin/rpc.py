"""What supervisord loads: its own namespace with start and stop routed to the listener, and the namespace `fleet`.

Standard library and supervisor only, as everything it imports. Values cross XML-RPC as JSON strings: supervisord turns
None, large integers and control characters into bare HTTP 500s.
"""

import functools
import json
import traceback
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from supervisor_plugin.deferred import wake_waiting_callers
from supervisor_plugin.journal import forgive_logs
from supervisor_plugin.names import LISTENER
from supervisor_plugin.snapshot import HealthPage, snapshot
from supervisor_plugin.supervisord import (
    MOOD_RUNNING,
    Faults,
    Process,
    RPCError,
    StockInterface,
    Supervisord,
    authenticated,
    is_stopped,
    state_name,
    subscribe,
)
from supervisor_plugin.waker import Waker
from supervisor_plugin.warden import Warden, warden_of

P = ParamSpec("P")
R = TypeVar("R")


class HasWarden(Protocol):
    @property
    def warden(self) -> Warden: ...


S = TypeVar("S", bound=HasWarden)


def faulting(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Turn any exception into a fault with words; supervisord would answer a bare 500, or blame the parameters."""

    @functools.wraps(method)
    def call(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(self, *args, **kwargs)
        except RPCError:
            raise
        except Exception as error:
            self.warden.journal.error(f"postern: {method.__name__}: {traceback.format_exc()}")
            raise RPCError(Faults.FAILED, f"{type(error).__name__}: {error}") from error

    return call


def ask(warden: Warden, op: str, arguments: dict[str, Any], fault: int = Faults.FAILED) -> Callable[[], object]:
    """Hand an operation to the listener; the deferred answer is its JSON, or a fault with its words."""
    if not warden.listener_is_well():
        raise RPCError(fault, f"the fleet listener does not answer, so {op} is refused; see `fleet status`")
    pid = warden.listener_pid()
    number = warden.requests.send(op, arguments, pid)
    return warden.requests.wait(number, warden.listener_pid, fault)


class SupervisorInterface(StockInterface):
    """supervisord's own namespace; start and stop of a managed program keep their meaning, through the listener."""

    def __init__(self, supervisord: Supervisord) -> None:
        StockInterface.__init__(self, supervisord)
        self.warden = warden_of(supervisord)

    def _managed(self, name: str) -> Process | None:
        group, _, process = name.partition(":")
        return self.warden.program(group) if process in ("", group) else None

    def startProcess(self, name: str, wait: bool = True) -> object:  # noqa: N802 - supervisord's name
        """Start it through the gate; `wait` until it is healthy."""
        self._update("startProcess")
        process = self._managed(name)
        if process is None:
            return StockInterface.startProcess(self, name, wait)
        if not is_stopped(process):
            raise RPCError(Faults.ALREADY_STARTED, name)
        self.warden.release(process.config.name)  # without a listener it starts as soon as there is one
        # SPAWN_ERROR is a code that `supervisorctl start` knows how to print.
        arguments = {"names": [process.config.name], "strict": True}
        return _unless_waited(ask(self.warden, "start", arguments, Faults.SPAWN_ERROR), wait)

    def stopProcess(self, name: str, wait: bool = True) -> object:  # noqa: N802 - supervisord's name
        """Drain and stop it as the operator's will; without a listener just stop it."""
        self._update("stopProcess")
        process = self._managed(name)
        if process is None:
            return StockInterface.stopProcess(self, name, wait)
        self.warden.hold(process.config.name)
        if not self.warden.listener_is_well():  # stopping must always work
            return StockInterface.stopProcess(self, name, wait)
        return _unless_waited(ask(self.warden, "stop", {"names": [process.config.name], "strict": True}), wait)


def _unless_waited(answer: Callable[[], object], wait: bool) -> object:
    if not wait:
        return True

    def truth() -> object:
        value = answer()
        return True if isinstance(value, str) else value

    function: Any = truth
    function.delay, function.rpcinterface = getattr(answer, "delay", 0.25), None
    return truth


def _list_inherited_methods(interface: type, stock: Any) -> None:
    """Copy what is inherited: `system.listMethods` looks only into the class's own dictionary."""
    for name, method in cast("dict[str, object]", vars(stock)).items():
        if not name.startswith("_") and callable(method) and name not in vars(interface):
            setattr(interface, name, method)


_list_inherited_methods(SupervisorInterface, StockInterface)


class FleetInterface:
    """The namespace `fleet`: operators' verbs, and the listener's own calls."""

    def __init__(self, supervisord: Supervisord) -> None:
        self.warden = warden_of(supervisord)
        self._supervisord = supervisord
        self._stock = StockInterface(supervisord)

    @faulting
    def status(self) -> str:
        """Tell everything known about the fleet, also while supervisord shuts down."""
        return json.dumps(snapshot(self.warden))

    @faulting
    def health(self, since: str = "") -> object:
        """Tell checks, failures and downtime of every server."""
        return ask(self.warden, "health", {"since": since})

    @faulting
    def explain(self, name: str) -> object:
        """Tell why one server is in its state, and what happens next."""
        return ask(self.warden, "explain", {"name": name})

    @faulting
    def start(self, names: list[str]) -> object:
        """Start servers and wait until they are healthy."""
        return ask(self.warden, "start", {"names": names})

    @faulting
    def stop(self, names: list[str]) -> object:
        """Drain and stop servers; they stay down until an operator starts them."""
        return ask(self.warden, "stop", {"names": names})

    @faulting
    def restart(self, names: list[str]) -> object:
        """Stop servers, verify that nothing is left of them, start them."""
        return ask(self.warden, "restart", {"names": names})

    @faulting
    def reconcile(self) -> object:
        """Read the registry again and make what runs what is declared."""
        return ask(self.warden, "reconcile", {})

    @faulting
    def report(self, body: str) -> bool:
        """Take the listener's heartbeat."""
        return self.warden.accept(json.loads(body))

    @faulting
    def spawn(self, name: str) -> str:
        """Spawn one program for the listener, without waiting."""
        process = self._known(name)
        if self._supervisord.options.mood < MOOD_RUNNING:
            raise RPCError(Faults.SHUTDOWN_STATE, "supervisord is stopping")
        if not is_stopped(process):
            raise RPCError(Faults.ALREADY_STARTED, f"{name} is {state_name(process.state)}")
        self.warden.permit(name)
        try:
            self._stock.startProcess(f"{name}:{name}", False)
        except RPCError as error:
            raise RPCError(Faults.SPAWN_ERROR, process.spawnerr or str(error)) from error
        finally:
            self.warden.revoke(name)
        return json.dumps({"pid": process.pid, "ticks": self.warden.facts[name].ticks})

    @faulting
    def kill(self, name: str) -> bool:
        """Stop one program for the listener: TERM now, KILL after stopwaitsecs, without waiting."""
        process = self._known(name)
        if not process.pid or process.killing:
            return bool(process.pid)
        return self.warden.stop(process) is None

    @faulting
    def hold(self, name: str, held: bool) -> bool:
        """Record or forget that an operator wants it down."""
        (self.warden.hold if held else self.warden.release)(name)
        return True

    @faulting
    def complete(self, number: int, answer: str) -> bool:
        """Take the listener's answer to a request."""
        self.warden.requests.complete(number, json.loads(answer))
        wake_waiting_callers(self._supervisord.options)
        if self.warden.waker is not None:
            self.warden.waker.poke()
        return True

    def _known(self, name: str) -> Process:
        process = self.warden.program(name)
        if process is None:
            raise RPCError(Faults.BAD_NAME, f"no managed program is called {name}")
        return process


def make_supervisor_interface(supervisord: Supervisord, **_settings: str) -> SupervisorInterface:
    """Make `[rpcinterface:supervisor]`."""
    return SupervisorInterface(supervisord)


def make_fleet_interface(supervisord: Supervisord, listener: str = LISTENER, watchdog_s: str = "20") -> FleetInterface:
    """Make `[rpcinterface:fleet]`; supervisord calls this once per HTTP server and after every reload."""
    warden = warden_of(supervisord)
    warden.listener_group, warden.watchdog_s = listener, float(watchdog_s)
    forgive_logs()
    if warden.waker is None:
        warden.waker = Waker(supervisord.options)
        subscribe("SupervisorRunningEvent", functools.partial(_serve_health_page, warden))
    return FleetInterface(supervisord)


def _serve_health_page(warden: Warden, _event: object) -> None:
    try:
        for settings, server in warden.supervisord.options.httpservers:
            page: Any = HealthPage(warden)
            if settings.get("username"):
                page = authenticated({settings["username"]: settings["password"]}, page)
            server.install_handler(page)
    except Exception:  # noqa: BLE001 - a missing page must not end supervisord
        warden.journal.error(f"postern: {traceback.format_exc()}")
