"""The life of a server as a pure function: a table of its ways, and what no sequence of events can break."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor_plugin.lifecycle import OVERDUE_S, step
from supervisor_plugin.processes import Identity
from supervisor_plugin.states import (
    MOVING,
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

POLICY = Policy(crash_limit=3, crash_window_s=60.0, failures=3, start_attempts=4)
A, B = Identity(10, 100), Identity(11, 200)
PROCESSES = (A, B, Identity(10, 300))


def run(state: State, *events: Event, now: float = 0.0) -> tuple[State, tuple[Action, ...]]:
    actions: tuple[Action, ...] = ()
    for event in events:
        state, actions = step(state, event, now, POLICY)
    return state, actions


def running(process: Identity = A) -> State:
    state, _ = run(State(), Start(), Prepared(1), Spawned(1, process), Passed(process))
    assert state.status is Status.RUNNING
    return state


def test_a_start_looks_spawns_checks_and_only_then_runs():
    state, actions = run(State(), Start())
    assert (state.status, actions) == (Status.PREPARING, (Prepare(1),))
    state, actions = run(state, Prepared(1))
    assert (state.status, actions) == (Status.SPAWNING, (Spawn(1),))
    state, actions = run(state, Spawned(1, A))
    assert (state.status, state.process, state.can_route) == (Status.CHECKING, A, False)
    assert actions == (Check(A, 0.05),)
    state, actions = run(state, Failed(A, "not yet"))
    assert state.status is Status.CHECKING
    state, actions = run(state, Passed(A))
    assert (state.status, state.health, state.can_route) == (Status.RUNNING, Health.HEALTHY, True)
    assert (state.deadline, actions) == (None, (Check(A, POLICY.interval_s),))


def test_a_stop_drains_terminates_and_confirms():
    state, actions = run(running(), Stop())
    assert (state.status, state.can_route, actions) == (Status.DRAINING, False, (Drain(1),))
    state, actions = run(state, Drained(1))
    assert (state.status, actions) == (Status.STOPPING, (Terminate(A),))
    state, actions = run(state, Exited(A, "was stopped"))
    assert (state.status, actions) == (Status.STOPPING, (Confirm(1),))
    state, _ = run(state, Gone(1))
    assert (state.status, state.process, state.wanted) == (Status.STOPPED, None, False)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (Exited(A, "exited with status 5"), "exited with status 5 before it was healthy"),
        (Tick(), "not healthy within 20 s: spawned; not checked yet"),
    ],
)
def test_what_fails_on_the_way_up_is_stopped_first_and_failed_then(event: Event, reason: str):
    state, _ = run(State(), Start(), Prepared(1), Spawned(1, A))
    state, actions = run(state, event, now=25.0)
    assert state.status is Status.STOPPING
    if actions == (Terminate(A),):
        state, actions = run(state, Exited(A, "was stopped"), now=26.0)
    assert actions == (Confirm(1),)
    state, _ = run(state, Gone(1), now=27.0)
    assert (state.status, state.health, state.reason) == (Status.FAILED, Health.UNHEALTHY, reason)
    state, actions = run(state, Tick(), now=60.0)
    assert (state.status, actions) == (Status.PREPARING, (Prepare(2),))


def test_too_many_failed_checks_at_the_start_end_it():
    state, _ = run(State(), Start(), Prepared(1), Spawned(1, A))
    state, actions = run(state, *[Failed(A, "no")] * POLICY.start_attempts)
    assert (state.status, actions) == (Status.STOPPING, (Terminate(A),))
    assert state.reason == "not healthy after 4 checks: no"


def test_failed_checks_degrade_first_and_restart_at_the_threshold():
    state, _ = run(running(), Failed(A, "no"), Failed(A, "no"))
    assert (state.status, state.health, state.failures, state.can_route) == (Status.RUNNING, Health.DEGRADED, 2, True)
    assert run(state, Passed(A))[0].failures == 0
    state, actions = run(state, Failed(A, "silent"))
    assert (state.status, state.can_route, actions) == (Status.STOPPING, False, (Terminate(A),))
    assert state.reason == "unhealthy, 3 checks in a row: silent"
    state, _ = run(state, Exited(A, "was stopped"), Gone(1))
    assert (state.status, state.reason) == (Status.CRASHED, "unhealthy, 3 checks in a row: silent")


def test_a_crash_loop_is_held_until_an_operator_starts_it():
    state, now = running(), 0.0
    for turn in (1, 2, 3):
        state, _ = run(state, Exited(A, "was killed by SIGKILL"), Gone(turn), now=now)
        if turn < 3:
            assert state.status is Status.CRASHED
            now += 5.0
            state, _ = run(state, Tick(), Prepared(turn + 1), Spawned(turn + 1, A), Passed(A), now=now)
    assert (state.status, state.deadline) == (Status.HELD, None)
    assert state.reason == "held after 3 failures in 60 s; last: was killed by SIGKILL"
    assert run(state, Tick(), now=1e6)[0] == state
    state, _ = run(state, Start(by_operator=True), now=now)
    assert (state.status, state.crashes) == (Status.PREPARING, ())


def test_crashes_further_apart_than_the_window_are_never_held():
    state = running()
    for turn in range(1, 9):
        now = turn * 100.0
        state, _ = run(state, Exited(A, "died"), Gone(turn), now=now)
        assert state.status is Status.CRASHED
        state, _ = run(state, Tick(), Prepared(turn + 1), Spawned(turn + 1, A), Passed(A), now=now + 1)


def test_what_is_refused_for_reasons_outside_the_server_never_holds_it():
    state, _ = run(State(), Start())
    for turn in range(1, 30):
        state, _ = run(state, Refused(turn, "no database", counts=False), now=turn * 40.0)
        assert (state.status, state.crashes) == (Status.FAILED, ())
        assert state.deadline is not None
        assert state.deadline - turn * 40.0 <= POLICY.backoff_max_s
        state, _ = run(state, Tick(), now=turn * 40.0 + 35)
    assert state.refusals == 29
    assert run(state, Prepared(30))[0].refusals == 0


def test_a_stop_in_the_middle_of_a_spawn_ends_what_comes_out_of_it():
    spawning, _ = run(State(), Start(), Prepared(1))
    stopping, actions = run(spawning, Stop())
    assert (stopping.status, actions) == (Status.STOPPING, ())
    state, actions = run(stopping, Spawned(1, A))
    assert (state.status, actions) == (Status.STOPPING, (Terminate(A),))
    state, actions = run(stopping, SpawnFailed(1, "no"))
    assert (state.status, actions) == (Status.STOPPING, (Confirm(1),))
    assert run(state, Gone(1))[0].status is Status.STOPPED


def test_a_process_that_comes_too_late_is_ended():
    state, _ = run(State(), Start(), Prepared(1))
    state, actions = run(state, Tick(), now=100.0)
    assert (state.status, actions) == (Status.STOPPING, (Confirm(2),))
    again, actions = run(state, Spawned(1, B))
    assert (again, actions) == (state, (Terminate(B),))


def test_what_survives_everything_is_failed_and_never_called_stopped():
    state, _ = run(running(), Stop(), Drained(1), now=0.0)
    state, actions = run(state, Tick(), now=POLICY.stop_grace_s + OVERDUE_S)
    assert actions == (Kill(A),)
    state, actions = run(state, Tick(), now=100.0)
    assert (state.status, state.deadline, actions) == (Status.FAILED, None, ())
    assert state.reason == "pid 10 survives SIGKILL; stopped by an operator"
    confirming, _ = run(running(), Stop(), Drained(1), Exited(A, "was stopped"))
    assert run(confirming, Left(1, "pid 7"))[0].status is Status.FAILED


def test_an_adopted_process_must_pass_a_check_before_it_counts_as_running():
    state, actions = run(State(), Adopt(A))
    assert (state.status, state.can_route, actions) == (Status.CHECKING, False, (Check(A, 0.0),))
    assert run(state, Passed(A))[0].status is Status.RUNNING
    assert run(running(), Adopt(B))[0].process == A


def test_news_of_another_process_or_turn_changes_nothing():
    state = running()
    for event in (Exited(B, "died"), Passed(B), Failed(B, "no"), Drained(1), Gone(1), Prepared(1), Refused(1, "x")):
        assert run(state, event) == (state, ())


def test_an_operators_start_during_a_stop_starts_again_and_a_stop_during_a_restart_stops():
    stopping, _ = run(running(), Stop(), Drained(1))
    state, actions = run(stopping, Start(by_operator=True), Exited(A, "was stopped"), Gone(1))
    assert (state.status, actions) == (Status.PREPARING, (Prepare(2),))
    restarting, _ = run(running(), Restart("because"), Drained(1))
    assert restarting.then is Then.START
    state, _ = run(restarting, Stop(), Exited(A, "was stopped"), Gone(1))
    assert (state.status, state.wanted) == (Status.STOPPED, False)


processes = st.sampled_from(PROCESSES)
turns = st.integers(0, 6)
events = st.one_of(
    st.builds(Start, by_operator=st.booleans()), st.just(Stop()), st.just(Restart("r")), st.builds(Adopt, processes),
    st.builds(Prepared, turns), st.builds(Refused, turns, st.just("no"), st.booleans()),
    st.builds(Spawned, turns, processes), st.builds(SpawnFailed, turns, st.just("no")), st.builds(Passed, processes),
    st.builds(Failed, processes, st.just("no")), st.builds(Exited, processes, st.just("died")),
    st.builds(Drained, turns), st.builds(Gone, turns), st.builds(Left, turns, st.just("left")), st.just(Tick()),
)  # fmt: skip
histories = st.lists(st.tuples(events, st.floats(0, 50)), max_size=60)


def aim(event: Event, state: State, chance: random.Random) -> Event:
    """Most events of a history concern the present turn and process, or nothing would ever happen."""
    if chance.random() < 0.2:
        return event
    match event:
        case Prepared() | Refused() | Spawned() | SpawnFailed() | Drained() | Gone() | Left():
            return replace(event, turn=state.turn)
        case Passed() | Failed() | Exited() if state.process is not None:
            return replace(event, process=state.process)
        case _:
            return event


@settings(max_examples=400)
@given(histories, st.randoms(use_true_random=False))
def test_no_history_breaks_what_must_always_hold(history: list[tuple[Event, float]], chance: random.Random):
    state, now, passed = State(), 0.0, False
    for drawn, pause in history:
        event = aim(drawn, state, chance)
        now += pause
        before = state
        state, actions = step(state, event, now, POLICY)
        assert (state, actions) == step(before, event, now, POLICY)
        passed = isinstance(event, Passed) if before.status is not Status.RUNNING else passed
        if state.status is Status.RUNNING:
            assert passed, "it runs without a passed check"
            assert state.process is not None
            assert state.wanted
        assert state.can_route == (state.status is Status.RUNNING)
        assert (state.deadline is not None) or state.status not in MOVING
        assert state.process is None or state.status not in RESTING
        if state.status in (Status.CRASHED, Status.HELD):
            assert state.wanted
        if state.status is Status.PREPARING:
            assert state.process is None
        if before.process is not None and state.process is None:
            ended = isinstance(event, Exited) or "survives SIGKILL" in state.reason
            assert ended, "a process was forgotten"
        assert len(state.crashes) <= max(POLICY.crash_limit, len(before.crashes) + 1)


@settings(max_examples=300)
@given(histories, st.randoms(use_true_random=False))
def test_every_way_up_or_down_ends_when_nothing_but_time_passes(
    history: list[tuple[Event, float]], chance: random.Random
):
    state, now = State(), 0.0
    for drawn, pause in history:
        now += pause
        state, _ = step(state, aim(drawn, state, chance), now, POLICY)
    if state.status not in MOVING:
        return
    for _ in range(5):
        assert state.deadline is not None
        now = state.deadline
        state, _ = step(state, Tick(), now, POLICY)
        if state.status not in MOVING:
            return
    raise AssertionError(f"still {state.status} after five deadlines")


@settings(max_examples=200)
@given(st.lists(st.floats(0.0, 30.0), min_size=1, max_size=40))
def test_never_more_automatic_starts_in_a_window_than_the_limit(pauses: list[float]):
    state, now, starts = running(), 0.0, list[float]()
    for pause in pauses:
        state, _ = step(state, Exited(A, "died"), now, POLICY)
        state, _ = step(state, Gone(state.turn), now, POLICY)
        now += pause
        before = state
        state, _ = step(state, Tick(), now, POLICY)
        if state.status is Status.PREPARING and before.status is not Status.PREPARING:
            starts.append(now)
            for event in (Prepared(state.turn), Spawned(state.turn, A), Passed(A)):
                state, _ = step(state, event, now, POLICY)
    for start in starts:
        assert sum(start <= other < start + POLICY.crash_window_s for other in starts) < POLICY.crash_limit + 1
