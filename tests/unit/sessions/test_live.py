"""What can end a request from outside, and what it then says."""

import asyncio
from time import time
from typing import Any
from uuid import UUID, uuid4

import pytest

from proxy.call import Call
from proxy.execution.ends import CLIENT_CANCELLED, DRAINING, End
from proxy.sessions.events import Origin, Position
from proxy.sessions.keeper import SessionKeeper
from proxy.sessions.live import CANCEL_GRACE_S, Live
from proxy.sessions.store import Session
from proxy.wire.jsonrpc import Envelope, EnvelopeKind

pytestmark = pytest.mark.anyio


def session(name: str = "s" * 22) -> Session:
    return Session(name, "server", ("", "", ""), "up", "2025-11-25", b"k" * 32, time() + 60)


class Running:
    """A request on its way that remembers how it was ended."""

    def __init__(
        self, of: Session | None, http_method: str = "POST", rpc_id: int | str = 1, resumes: UUID | None = None
    ) -> None:
        self.call = Call.arrive("server", http_method, (), "127.0.0.1")
        self.call.session = of
        if http_method == "POST":
            self.call.take(Envelope(EnvelopeKind.REQUEST, rpc_id, "tools/call", {"name": "t"}, {}))
        if resumes is not None:
            self.call.resumed = Position("e", 0, Origin(resumes, 1, "tools/call", "t"))
        self.done = asyncio.Event()
        self.ends: list[End] = []

    def stop(self, end: End) -> None:
        self.ends.append(end)
        self.done.set()

    async def wait(self) -> None:
        await self.done.wait()

    def over(self) -> None:
        self.done.set()


def running(live: Live, *requests: Running) -> None:
    for request in requests:
        live.add(request)


async def test_a_request_that_was_answered_is_forgotten() -> None:
    live, request = Live(), Running(session())
    live.add(request)
    assert (len(live), live.sessions()) == (1, ["s" * 22])
    live.remove(request)
    assert (len(live), live.sessions(), request.done.is_set()) == (0, [], True)


async def test_a_session_opened_meanwhile_does_not_disturb_the_books() -> None:
    """An initialize has no session when it begins and one when it ends."""
    live, request = Live(), Running(None)
    live.add(request)
    request.call.session = session()
    live.remove(request)
    assert (len(live), live.sessions()) == (0, [])


@pytest.mark.parametrize(
    ("status", "of_stream", "of_call"),
    [
        ("open", None, None),
        ("closed", "session.closed", None),
        ("expired", "session.expired", None),
        ("lost", "session.lost", None),
        ("revoked", "session.revoked", "session.revoked"),
    ],
)
async def test_what_a_changed_session_ends(status: str, of_stream: str | None, of_call: str | None) -> None:
    live = Live()
    stream, call, other = Running(session(), "GET"), Running(session()), Running(session("o" * 22), "GET")
    running(live, stream, call, other)
    live.session_changed("s" * 22, status)
    assert [end.code for end in stream.ends] == ([of_stream] if of_stream else [])
    assert [end.code for end in call.ends] == ([of_call] if of_call else [])
    assert other.ends == []


async def test_a_drain_ends_streams_and_lets_calls_finish() -> None:
    live = Live()
    stream, call = Running(session(), "GET"), Running(session())
    running(live, stream, call)
    live.end_streams(DRAINING)
    assert (stream.ends, call.ends) == ([DRAINING], [])


async def test_only_the_cancelled_request_is_ended_and_only_after_a_grace() -> None:
    live = Live()
    cancelled, other_type, other = (
        Running(session(), rpc_id=1),
        Running(session(), rpc_id="1"),
        Running(session(), rpc_id=2),
    )
    running(live, cancelled, other_type, other)
    live.cancel("s" * 22, 1)
    assert cancelled.ends == []
    async with asyncio.timeout(CANCEL_GRACE_S + 5):
        await cancelled.done.wait()
    assert (cancelled.ends, other_type.ends, other.ends) == ([CLIENT_CANCELLED], [], [])


async def test_a_resumed_stream_is_let_go_by_all_but_the_one_that_resumes() -> None:
    live, posted = Live(), Running(session())
    execution = posted.call.execution_id
    first, second = Running(session(), "GET", resumes=execution), Running(session(), "GET", resumes=execution)
    foreign, standing = Running(session("o" * 22), "GET", resumes=execution), Running(session(), "GET")
    running(live, posted, first, second, foreign, standing)
    assert await live.hand_over("s" * 22, execution, second.call.execution_id)
    assert [end.status for end in posted.ends] == ["interrupted"]
    assert [end.status for end in first.ends] == ["success"]
    assert second.ends == foreign.ends == standing.ends == []
    assert not await live.hand_over("s" * 22, uuid4(), second.call.execution_id)


class Forgetful:
    """Sessions of which a test wants to know only what was forgotten."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []

    def forget(self, session_id: str) -> None:
        self.forgotten.append(session_id)


async def test_notifications_reach_what_they_are_about() -> None:
    live, sessions = Live(), Forgetful()
    keeper = SessionKeeper(sessions, live, tuple, _nobody)  # pyright: ignore[reportArgumentType] -- a part of Sessions
    posted = Running(session())
    standing = Running(session(), "GET")
    running(live, posted, standing)
    keeper.changed(f"{'s' * 22} moved {posted.call.execution_id} {uuid4()}")
    assert [end.code for end in posted.ends] == ["stream.moved"]
    assert sessions.forgotten == []
    keeper.changed(f"{'s' * 22} revoked")
    assert [end.code for end in standing.ends] == ["session.revoked"]
    assert sessions.forgotten == ["s" * 22]


@pytest.mark.parametrize("payload", ["", "x", "a b c", "s moved not-a-uuid neither", "s moved"])
async def test_a_notification_that_says_nothing_does_nothing(payload: str) -> None:
    live, stream = Live(), Running(session("s"), "GET")
    live.add(stream)
    keeper = SessionKeeper(Forgetful(), live, tuple, _nobody)  # pyright: ignore[reportArgumentType] -- a part of Sessions
    keeper.changed(payload)
    assert stream.ends == []


async def _nobody(_: Any) -> None:
    """No server to tell."""
