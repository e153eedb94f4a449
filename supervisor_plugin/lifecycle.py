"""One server's life as a pure function: `step(state, event, now, policy)` gives the next state and what to do.

    stopped ─▶ preparing ─▶ spawning ─▶ checking ─▶ running ─▶ draining ─▶ stopping ─▶ stopped | crashed | failed | held
                   └────────────┴───────────┴──────────┴───────────────────▲            (crashed, failed: again later)

What may not happen is built in here: nothing runs without a passed check; every state on the way has a deadline;
answers of an earlier turn are ignored; nothing of a server is forgotten before its end was confirmed. `now` is
monotonic seconds.
"""

from dataclasses import replace
from typing import assert_never

from supervisor_plugin.states import (
    RESTING,
    Action,
    Adopt,
    Check,
    Confirm,
    Drain,
    Drained,
    Event,
    Exited,
    Failed,
    Gone,
    Health,
    Kill,
    Left,
    Passed,
    Policy,
    Prepare,
    Prepared,
    Refused,
    Restart,
    Spawn,
    Spawned,
    SpawnFailed,
    Start,
    State,
    Status,
    Stop,
    Terminate,
    Then,
    Tick,
)

FIRST_CHECK_S = 0.05
MAX_START_DELAY_S = 0.5
OVERDUE_S = 5.0
REFUSED_RETRY_S = 0.5

Step = tuple[State, tuple[Action, ...]]


def step(state: State, event: Event, now: float, policy: Policy) -> Step:
    """Return the next state and the actions that it needs; an event that does not fit changes nothing."""
    match event:
        case Start() | Stop() | Restart() | Adopt():
            return _commanded(state, event, now, policy)
        case Prepared() | Refused() | Spawned() | SpawnFailed():
            return _started(state, event, now, policy)
        case Passed() | Failed():
            return _checked(state, event, now, policy) if event.process == state.process else (state, ())
        case Exited():
            return _exited(state, event, now, policy) if event.process == state.process else (state, ())
        case Drained():
            is_due = state.status is Status.DRAINING and event.turn == state.turn
            return _stop(state, now, policy, state.then, state.reason) if is_due else (state, ())
        case Gone() | Left():
            is_due = state.status is Status.STOPPING and event.turn == state.turn and state.process is None
            return _confirmed(state, event, now, policy) if is_due else (state, ())
        case Tick():
            is_due = state.deadline is not None and now >= state.deadline
            return _overdue(state, now, policy) if is_due else (state, ())
        case _:
            assert_never(event)


# What operators and the plan command


def _commanded(state: State, event: Start | Stop | Restart | Adopt, now: float, policy: Policy) -> Step:
    match event:
        case Start():
            return _start(state, now, policy, by_operator=event.by_operator)
        case Stop():
            return _halt(replace(state, wanted=False), now, policy, Then.REST, event.reason)
        case Restart():
            if state.status in RESTING:
                return _start(state, now, policy, by_operator=True)
            if state.status in (Status.PREPARING, Status.SPAWNING):
                return replace(state, wanted=True), ()
            return _halt(replace(state, wanted=True), now, policy, Then.START, event.reason)
        case Adopt():
            if state.status not in RESTING:
                return state, ()
            adopted = replace(
                state, status=Status.CHECKING, wanted=True, process=event.process, turn=state.turn + 1, attempts=0,
                failures=0, deadline=now + policy.start_budget_s, reason="adopted; not checked yet",
            )  # fmt: skip
            return adopted, (Check(event.process, 0.0),)


def _start(state: State, now: float, policy: Policy, *, by_operator: bool) -> Step:
    wanted = replace(state, wanted=True)
    if state.status in RESTING:
        return _prepare(replace(wanted, crashes=() if by_operator else state.crashes), now, policy)
    if state.status in (Status.DRAINING, Status.STOPPING):
        # After a failure it starts again anyway, but not before its back-off.
        return replace(wanted, then=Then.START if state.then is Then.REST else state.then), ()
    return wanted, ()


def _prepare(state: State, now: float, policy: Policy) -> Step:
    turn = state.turn + 1
    prepared = replace(
        state, status=Status.PREPARING, health=Health.UNKNOWN, process=None, turn=turn, attempts=0, failures=0,
        deadline=now + policy.prepare_s, then=Then.REST, killed=False, reason="looking at program and port",
    )  # fmt: skip
    return prepared, (Prepare(turn),)


def _halt(state: State, now: float, policy: Policy, then: Then, reason: str) -> Step:
    match state.status:
        case Status.STOPPED | Status.CRASHED | Status.FAILED | Status.HELD | Status.PREPARING:
            # A late answer to a preparation finds another turn, and nothing was spawned.
            return _rest(replace(state, turn=state.turn + 1), Status.STOPPED, reason), ()
        case Status.SPAWNING:
            # supervisord may be spawning right now: its answer, or the deadline, goes on.
            return replace(state, status=Status.STOPPING, then=then, reason=reason), ()
        case Status.RUNNING:
            drained = replace(state, status=Status.DRAINING, then=then, reason=reason, deadline=now + policy.drain_s)
            return drained, (Drain(state.turn),)
        case Status.CHECKING:
            return _stop(state, now, policy, then, reason)
        case Status.DRAINING | Status.STOPPING:
            return replace(state, then=then, reason=reason), ()


# On the way up


def _started(state: State, event: Prepared | Refused | Spawned | SpawnFailed, now: float, policy: Policy) -> Step:
    is_current = event.turn == state.turn
    match event:
        case Prepared():
            if not is_current or state.status is not Status.PREPARING:
                return state, ()
            spawning = replace(
                state, status=Status.SPAWNING, refusals=0, deadline=now + policy.spawn_s, reason="being spawned"
            )
            return spawning, (Spawn(state.turn),)
        case Refused():
            if not is_current or state.status is not Status.PREPARING:
                return state, ()
            return _fall(state, now, policy, Status.FAILED, event.reason, counts=event.counts), ()
        case Spawned():
            return _spawned(state, event, now, policy, is_current=is_current)
        case SpawnFailed():
            if not is_current or state.process is not None:
                return state, ()
            if state.status is Status.SPAWNING:
                return _fall(state, now, policy, Status.FAILED, event.reason), ()
            return _confirm(state, now, policy) if state.status is Status.STOPPING else (state, ())


def _spawned(state: State, event: Spawned, now: float, policy: Policy, *, is_current: bool) -> Step:
    if is_current and state.status is Status.SPAWNING:
        checking = replace(
            state, status=Status.CHECKING, process=event.process, deadline=now + policy.start_budget_s,
            reason="spawned; not checked yet",
        )  # fmt: skip
        return checking, (Check(event.process, FIRST_CHECK_S),)
    if is_current and state.status is Status.STOPPING and state.process is None:
        return _stop(replace(state, process=event.process), now, policy, state.then, state.reason)
    return state, () if state.process == event.process else (Terminate(event.process),)


def _checked(state: State, event: Passed | Failed, now: float, policy: Policy) -> Step:
    if state.status not in (Status.CHECKING, Status.RUNNING):
        return state, ()
    if isinstance(event, Passed):
        running = replace(
            state, status=Status.RUNNING, health=Health.HEALTHY, attempts=0, failures=0, deadline=None, reason=""
        )
        return running, (Check(state.process, policy.interval_s),)
    return (_check_failed_at_start if state.status is Status.CHECKING else _check_failed)(state, event, now, policy)


def _check_failed_at_start(state: State, event: Failed, now: float, policy: Policy) -> Step:
    attempts = state.attempts + 1
    tried = replace(state, attempts=attempts, reason=event.reason)
    if attempts >= policy.start_attempts:
        return _stop(tried, now, policy, Then.FAILED, f"not healthy after {attempts} checks: {event.reason}")
    return tried, (Check(state.process, min(MAX_START_DELAY_S, FIRST_CHECK_S * 2 ** min(attempts, 8))),)


def _check_failed(state: State, event: Failed, now: float, policy: Policy) -> Step:
    failures = state.failures + 1
    failed = replace(state, failures=failures, health=Health.DEGRADED, reason=event.reason)
    if failures < policy.failures:
        return failed, (Check(state.process, policy.interval_s),)
    reason = f"unhealthy, {failures} checks in a row: {event.reason}"
    return _stop(replace(failed, health=Health.UNHEALTHY), now, policy, Then.CRASHED, reason)


# On the way down


def _stop(state: State, now: float, policy: Policy, then: Then, reason: str) -> Step:
    if state.process is None:
        return _confirm(replace(state, then=then, reason=reason), now, policy)
    stopping = replace(
        state, status=Status.STOPPING, then=then, reason=reason, killed=False,
        deadline=now + policy.stop_grace_s + OVERDUE_S,
    )  # fmt: skip
    return stopping, (Terminate(state.process),)


def _confirm(state: State, now: float, policy: Policy) -> Step:
    confirming = replace(state, status=Status.STOPPING, process=None, deadline=now + policy.confirm_s)
    return confirming, (Confirm(state.turn),)


def _exited(state: State, event: Exited, now: float, policy: Policy) -> Step:
    match state.status:
        case Status.CHECKING:
            return _confirm(replace(state, then=Then.FAILED, reason=f"{event.how} before it was healthy"), now, policy)
        case Status.RUNNING:
            crashed = replace(state, then=Then.CRASHED, health=Health.UNHEALTHY, reason=event.how)
            return _confirm(crashed, now, policy)
        case Status.DRAINING | Status.STOPPING:
            return _confirm(state, now, policy)
        case _:
            return state, ()


def _confirmed(state: State, event: Gone | Left, now: float, policy: Policy) -> Step:
    if isinstance(event, Left):
        return _give_up(state, now, policy, event.reason), ()
    match state.then:
        case Then.START if state.wanted:
            return _prepare(replace(state, restarts=state.restarts + 1), now, policy)
        case Then.CRASHED if state.wanted:
            return _fall(state, now, policy, Status.CRASHED, state.reason), ()
        case Then.FAILED if state.wanted:
            return _fall(state, now, policy, Status.FAILED, state.reason), ()
        case _:
            return _rest(state, Status.STOPPED, state.reason), ()


def _fall(state: State, now: float, policy: Policy, status: Status, reason: str, *, counts: bool = True) -> State:
    """Come to rest after something went wrong: try again later, or hold when it happens too often."""
    recent = tuple(at for at in state.crashes if now - at < policy.crash_window_s)
    crashes = (*recent, now) if counts else recent
    if not state.wanted:
        return _rest(replace(state, crashes=crashes), Status.STOPPED, reason)
    if len(crashes) >= policy.crash_limit:
        held = f"held after {len(crashes)} failures in {policy.crash_window_s:g} s; last: {reason}"
        return _rest(replace(state, crashes=crashes), Status.HELD, held)
    refusals = 0 if counts else state.refusals + 1
    delay = policy.backoff_s * 2 ** max(0, len(crashes) - 1) if counts else REFUSED_RETRY_S * 2 ** min(refusals, 16)
    fallen = _rest(replace(state, crashes=crashes, refusals=refusals), status, reason)
    return replace(fallen, deadline=now + min(policy.backoff_max_s, delay))


def _give_up(state: State, now: float, policy: Policy, reason: str) -> State:
    """Say that something of it may be left, also when it was to be stopped; `stopped` would not be true."""
    return _fall(state, now, policy, Status.FAILED, reason) if state.wanted else _rest(state, Status.FAILED, reason)


def _rest(state: State, status: Status, reason: str) -> State:
    health = Health.UNHEALTHY if status in (Status.CRASHED, Status.FAILED, Status.HELD) else Health.UNKNOWN
    return replace(
        state, status=status, health=health, process=None, deadline=None, then=Then.REST, killed=False, reason=reason
    )


def _overdue(state: State, now: float, policy: Policy) -> Step:
    match state.status:
        case Status.PREPARING:
            reason = f"{state.reason} took more than {policy.prepare_s:g} s"
            return _fall(replace(state, turn=state.turn + 1), now, policy, Status.FAILED, reason), ()
        case Status.SPAWNING:
            late = replace(state, turn=state.turn + 1, then=Then.FAILED, reason="supervisord did not spawn it in time")
            return _confirm(late, now, policy)
        case Status.CHECKING:
            reason = f"not healthy within {policy.start_budget_s:g} s: {state.reason}"
            return _stop(state, now, policy, Then.FAILED, reason)
        case Status.DRAINING:
            return _stop(state, now, policy, state.then, state.reason)
        case Status.STOPPING:
            return _stop_overdue(state, now, policy)
        case Status.CRASHED | Status.FAILED:
            return _prepare(replace(state, restarts=state.restarts + 1), now, policy)
        case Status.STOPPED | Status.RUNNING | Status.HELD:
            return replace(state, deadline=None), ()
        case _:
            assert_never(state.status)


def _stop_overdue(state: State, now: float, policy: Policy) -> Step:
    if state.process is None:
        late = replace(state, turn=state.turn + 1)
        return _give_up(late, now, policy, f"its end could not be confirmed: {state.reason}"), ()
    if not state.killed:
        return replace(state, killed=True, deadline=now + OVERDUE_S), (Kill(state.process),)
    reason = f"pid {state.process.pid} survives SIGKILL; {state.reason}"
    return _give_up(replace(state, turn=state.turn + 1), now, policy, reason), ()
