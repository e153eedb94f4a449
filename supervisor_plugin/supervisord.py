"""A typed window on the parts of supervisord that the in-process plugin touches; supervisor itself ships no types."""

import importlib
from collections.abc import Callable
from typing import Any, Protocol

_events: Any = importlib.import_module("supervisor.events")
_http: Any = importlib.import_module("supervisor.http")
_states: Any = importlib.import_module("supervisor.states")
_xmlrpc: Any = importlib.import_module("supervisor.xmlrpc")
_interface: Any = importlib.import_module("supervisor.rpcinterface")

NOT_DONE_YET: Any = _http.NOT_DONE_YET
RPCError: type[Exception] = _xmlrpc.RPCError
Faults: Any = _xmlrpc.Faults
StockInterface: Any = _interface.SupervisorNamespaceRPCInterface
authenticated: Any = _http.supervisor_auth_handler

STOPPED: int = _states.ProcessStates.STOPPED
STARTING: int = _states.ProcessStates.STARTING
RUNNING: int = _states.ProcessStates.RUNNING
FATAL: int = _states.ProcessStates.FATAL
LISTENER_READY: int = _states.EventListenerStates.READY
LISTENER_BUSY: int = _states.EventListenerStates.BUSY
LISTENER_UNKNOWN: int = _states.EventListenerStates.UNKNOWN
MOOD_RUNNING: int = _states.SupervisorStates.RUNNING


class ProcessConfig(Protocol):
    name: str
    autostart: object
    autorestart: object
    environment: dict[str, str] | None


class GroupConfig(Protocol):
    name: str
    buffer_size: int


class Process(Protocol):
    config: ProcessConfig
    pid: int
    state: int
    listener_state: int | None
    laststart: float
    spawnerr: str | None
    killing: bool
    spawn: Callable[[], int | None]
    stop: Callable[[], str | None]
    finish: Callable[[int, int], None]

    def signal(self, sig: int) -> str | None: ...


class Group(Protocol):
    config: GroupConfig
    processes: dict[str, Process]
    event_buffer: list[object]


class Logger(Protocol):
    def info(self, msg: str) -> None: ...
    def warn(self, msg: str) -> None: ...
    def error(self, msg: str) -> None: ...
    def critical(self, msg: str) -> None: ...


class Options(Protocol):
    logger: Logger
    mood: int
    httpservers: list[tuple[dict[str, str | None], Any]]
    signal_receiver: Any

    def get_socket_map(self) -> dict[int, object]: ...


class Supervisord(Protocol):
    options: Options
    process_groups: dict[str, Group]


def state_name(state: int) -> str:
    """Name a state as supervisorctl does, like RUNNING."""
    return str(_states.getProcessStateDescription(state))


def listener_state_name(state: int | None) -> str:
    """READY, BUSY, ACKNOWLEDGED, UNKNOWN, or nothing for what is no event listener."""
    return "" if state is None else str(_states.getEventListenerStateDescription(state))


def is_stopped(process: Process) -> bool:
    """Whether supervisord could spawn it: stopped, exited, fatal or unknown."""
    return process.state in _states.STOPPED_STATES


def pending_signals(options: Options) -> int:
    """How many signals supervisord has received and not yet looked at; it looks at one per turn of its loop."""
    return len(getattr(options.signal_receiver, "_signals_recvd", ()))


def subscribe(event: str, callback: Callable[[Any], None]) -> None:
    """Call back on each event of a class in `supervisor.events`; the callback must never raise."""
    _events.subscribe(getattr(_events, event), callback)


def send_remote_event(kind: str, data: str) -> None:
    """Put a REMOTE_COMMUNICATION event into the queue of every listener that asked for it."""
    _events.notify(_events.RemoteCommunicationEvent(kind, data))
