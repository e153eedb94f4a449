"""The life of a server that runs elsewhere: there is no process to start, only an answer to wait for."""

from dataclasses import replace

from supervisor_plugin.lifecycle import Step
from supervisor_plugin.states import Check, Event, Failed, Health, Passed, Policy, Restart, Start, State, Status, Stop

FIRST_RETRY_S = 0.5


def step_external(state: State, event: Event, now: float, policy: Policy) -> Step:
    """Return the next state and the checks that it needs; checks go on as long as the server is wanted."""
    del now
    match event:
        case Start() | Restart() if state.status in (Status.STOPPED, Status.FAILED):
            fresh = replace(
                state, status=Status.CHECKING, wanted=True, attempts=0, failures=0, reason="not checked yet"
            )
            return fresh, (Check(None, 0.0),)
        case Stop(reason=reason):
            stopped = replace(
                state, status=Status.STOPPED, health=Health.UNKNOWN, wanted=False, failures=0, reason=reason
            )
            return stopped, ()
        case Passed() if state.wanted:
            running = replace(
                state, status=Status.RUNNING, health=Health.HEALTHY, attempts=0, failures=0, reason="", deadline=None
            )
            return running, (Check(None, policy.interval_s),)
        case Failed(reason=reason) if state.wanted:
            return _failed(state, reason, policy)
        case _:
            return state, ()


def _failed(state: State, reason: str, policy: Policy) -> Step:
    failures = state.failures + 1
    failed = replace(state, failures=failures, reason=reason)
    if state.status is Status.RUNNING and failures < policy.failures:
        return replace(failed, health=Health.DEGRADED), (Check(None, policy.interval_s),)
    delay = min(policy.interval_s, FIRST_RETRY_S * 2 ** min(state.attempts, 16))
    unreachable = replace(failed, status=Status.FAILED, health=Health.UNHEALTHY, attempts=state.attempts + 1)
    return unreachable, (Check(None, delay),)
