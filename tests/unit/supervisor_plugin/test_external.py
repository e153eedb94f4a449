"""A server that runs elsewhere: it is only ever checked."""

from hypothesis import given
from hypothesis import strategies as st

from supervisor_plugin.external import step_external
from supervisor_plugin.states import Check, Event, Failed, Health, Passed, Policy, Restart, Start, State, Status, Stop

POLICY = Policy(interval_s=10.0, failures=2)


def run(state: State, *events: Event) -> tuple[State, tuple[object, ...]]:
    actions: tuple[object, ...] = ()
    for event in events:
        state, actions = step_external(state, event, 0.0, POLICY)
    return state, actions


def test_it_is_routed_after_a_passed_check_and_until_the_threshold():
    state, actions = run(State(), Start())
    assert (state.status, state.can_route, actions) == (Status.CHECKING, False, (Check(None, 0.0),))
    state, actions = run(state, Passed(None))
    assert (state.can_route, actions) == (True, (Check(None, 10.0),))
    state, actions = run(state, Failed(None, "no"))
    assert (state.can_route, state.health, actions) == (True, Health.DEGRADED, (Check(None, 10.0),))
    state, actions = run(state, Failed(None, "no"))
    assert (state.status, state.can_route, state.health) == (Status.FAILED, False, Health.UNHEALTHY)
    assert run(state, Passed(None))[0].can_route


def test_an_unreachable_one_is_asked_less_and_less_often_but_never_given_up():
    state, _ = run(State(), Start())
    delays: list[float] = []
    for _ in range(10):
        state, actions = run(state, Failed(None, "no"))
        delays += [action.delay_s for action in actions if isinstance(action, Check)]
    assert delays[:3] == [0.5, 1.0, 2.0]
    assert delays[-1] == POLICY.interval_s


@given(st.lists(st.sampled_from([Start(), Stop(), Restart("r"), Passed(None), Failed(None, "no")]), max_size=40))
def test_it_is_checked_exactly_as_long_as_it_is_wanted(history: list[Event]):
    state = State()
    for event in history:
        before = state
        state, actions = step_external(state, event, 0.0, POLICY)
        assert state.process is None
        assert not state.can_route or state.wanted
        if isinstance(event, (Passed, Failed)):
            assert bool(actions) == before.wanted
