"""A server's state on its way through a client: proven for whom it was marked, and for nobody else."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.auth.identity import Authenticated
from proxy.call import Call
from proxy.states import FOREIGN, States
from proxy.wire.era import Era
from proxy.wire.jsonrpc import Envelope, EnvelopeKind

STATES = States(b"k" * 32)


def who(subject: str) -> Authenticated:
    return Authenticated("bearer", "https://issuer.test", subject, "cli", frozenset(), 0.0)


def asked(state: object = ..., subject: str = "ada", server: str = "one", era: Era = Era.MODERN) -> Call:
    params: dict[str, Any] = {"name": "t"} if state is ... else {"name": "t", "requestState": state}
    call = Call.arrive(server, "POST", (), "127.0.0.1")
    call.take(Envelope(EnvelopeKind.REQUEST, 1, "tools/call", params, {"params": params}))
    call.era, call.identity = era, who(subject)
    return call


def marked(state: str, **of: Any) -> str:
    message = STATES.marked(asked(**of), {"jsonrpc": "2.0", "id": 1, "result": {"requestState": state}})
    assert message is not None
    result: Any = message["result"]
    return result["requestState"]


def brought(call: Call) -> object:
    assert call.envelope is not None
    assert call.envelope.params is not None
    return call.envelope.params["requestState"]


@given(st.text(max_size=50))
def test_what_was_marked_comes_back_as_it_was(state: str) -> None:
    call = asked(marked(state))
    assert STATES.receive(call) is None
    assert brought(call) == state
    assert call.envelope is not None
    assert call.envelope.message["params"]["requestState"] == state, "what is forwarded"


@pytest.mark.parametrize(
    "call",
    [
        asked(marked("s"), subject="eve"),
        asked(marked("s"), server="two"),
        asked(marked("s") + "x"),
        asked(marked("s")[1:]),
        asked("s"),
        asked(""),
        asked(None),
        asked(["s"]),
        asked("\ud800" * 40),
    ],
)
def test_what_is_not_the_callers_is_refused(call: Call) -> None:
    assert STATES.receive(call) is FOREIGN


def test_another_installation_knows_nothing_of_it() -> None:
    assert States(b"o" * 32).receive(asked(marked("s"))) is FOREIGN


def test_the_handshake_era_and_requests_without_a_state_are_left_alone() -> None:
    assert STATES.receive(asked("anything", era=Era.LEGACY)) is None
    assert STATES.receive(asked()) is None
    plain: dict[str, object] = {"jsonrpc": "2.0", "id": 1, "result": {"content": []}}
    assert STATES.marked(asked(), plain) is None
    assert STATES.marked(asked(era=Era.LEGACY), {"result": {"requestState": "s"}}) is None
    assert STATES.marked(asked(), {"result": {"requestState": 7}}) is None


def test_what_the_request_is_for_stays_as_it_was_found_out() -> None:
    """A request for a task is for the tool that it runs, which its parameters do not name."""
    call = asked(marked("s"))
    call.target = "the tool of the task"
    assert STATES.receive(call) is None
    assert call.target == "the tool of the task"
