"""The words of a server's life: its state, what can happen to it, and what can be done about it. Data only."""

from dataclasses import dataclass
from enum import StrEnum

from supervisor_plugin.processes import Identity


class Status(StrEnum):
    STOPPED = "stopped"
    PREPARING = "preparing"
    SPAWNING = "spawning"
    CHECKING = "checking"
    RUNNING = "running"
    DRAINING = "draining"
    STOPPING = "stopping"
    CRASHED = "crashed"
    FAILED = "failed"
    HELD = "held"


class Health(StrEnum):
    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class Then(StrEnum):
    """What follows when a stop is complete."""

    REST = "rest"
    START = "start"
    CRASHED = "crashed"
    FAILED = "failed"


RESTING = frozenset({Status.STOPPED, Status.CRASHED, Status.FAILED, Status.HELD})
MOVING = frozenset({Status.PREPARING, Status.SPAWNING, Status.CHECKING, Status.DRAINING, Status.STOPPING})


@dataclass(frozen=True, slots=True)
class Policy:
    """The registry's numbers for one server."""

    interval_s: float = 10.0
    failures: int = 3
    start_attempts: int = 40
    start_budget_s: float = 20.0
    stop_grace_s: float = 10.0
    drain_s: float = 10.0
    backoff_s: float = 0.5
    backoff_max_s: float = 30.0
    crash_limit: int = 5
    crash_window_s: float = 60.0
    prepare_s: float = 30.0
    spawn_s: float = 40.0
    confirm_s: float = 15.0


@dataclass(frozen=True, slots=True)
class State:
    """Everything that the next step depends on. `turn` counts starts: it tells old answers from new ones.

    `refusals` counts starts in a row that were refused for reasons outside the server, such as an absent database.
    """

    status: Status = Status.STOPPED
    health: Health = Health.UNKNOWN
    wanted: bool = False
    process: Identity | None = None
    turn: int = 0
    attempts: int = 0
    failures: int = 0
    refusals: int = 0
    restarts: int = 0
    crashes: tuple[float, ...] = ()
    deadline: float | None = None
    then: Then = Then.REST
    killed: bool = False
    reason: str = ""

    @property
    def can_route(self) -> bool:
        return self.status is Status.RUNNING


# Events


@dataclass(frozen=True, slots=True)
class Start:
    """It shall run. An operator's word also ends the hold of a crash loop."""

    by_operator: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    reason: str = "stopped by an operator"


@dataclass(frozen=True, slots=True)
class Restart:
    reason: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """It runs already, under supervisord, since before we looked."""

    process: Identity


@dataclass(frozen=True, slots=True)
class Prepared:
    turn: int


@dataclass(frozen=True, slots=True)
class Refused:
    """It cannot be started now; `counts` tells whether that is a failure of the server itself."""

    turn: int
    reason: str
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Spawned:
    turn: int
    process: Identity


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    turn: int
    reason: str


@dataclass(frozen=True, slots=True)
class Passed:
    process: Identity | None


@dataclass(frozen=True, slots=True)
class Failed:
    process: Identity | None
    reason: str


@dataclass(frozen=True, slots=True)
class Exited:
    process: Identity
    how: str


@dataclass(frozen=True, slots=True)
class Drained:
    turn: int


@dataclass(frozen=True, slots=True)
class Gone:
    """Confirmed: no process of this server is left, and its port is free."""

    turn: int


@dataclass(frozen=True, slots=True)
class Left:
    """Something of it is left that we could not end."""

    turn: int
    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = (
    Start | Stop | Restart | Adopt | Prepared | Refused | Spawned | SpawnFailed
    | Passed | Failed | Exited | Drained | Gone | Left | Tick
)  # fmt: skip

# Actions; their outcomes come back as events


@dataclass(frozen=True, slots=True)
class Prepare:
    turn: int


@dataclass(frozen=True, slots=True)
class Spawn:
    turn: int


@dataclass(frozen=True, slots=True)
class Check:
    process: Identity | None
    delay_s: float


@dataclass(frozen=True, slots=True)
class Drain:
    turn: int


@dataclass(frozen=True, slots=True)
class Terminate:
    process: Identity


@dataclass(frozen=True, slots=True)
class Kill:
    process: Identity


@dataclass(frozen=True, slots=True)
class Confirm:
    turn: int


Action = Prepare | Spawn | Check | Drain | Terminate | Kill | Confirm
