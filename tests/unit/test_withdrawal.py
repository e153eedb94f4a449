"""What of open streams cannot be judged after a reload ends, and keeps neither the others open nor calls waiting."""

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from proxy.auth.identity import Anonymous
from proxy.call import Call
from proxy.execution.ends import CREDENTIAL_WITHDRAWN, End
from proxy.sessions.live import Live
from proxy.wire.era import Era
from proxy.wire.fields import Fields
from proxy.withdrawal import end_withdrawn


class Stream:
    """An open stream that notes its end."""

    def __init__(self, server: str) -> None:
        self.call = Call.arrive(server, "GET", Fields.of(()), "127.0.0.1")
        self.call.era = Era.LEGACY
        self.ends: list[End] = []

    def stop(self, end: End) -> None:
        if not self.ends:  # once, as the protocol has it
            self.ends.append(end)

    def over(self) -> None:
        """Nobody waits."""


def a_route(*, is_broken: bool = False, is_allowed: bool = True) -> Any:
    async def authenticate(_headers: object, _now: float) -> Anonymous:
        if is_broken:
            raise ZeroDivisionError
        return Anonymous()

    def decide(*_: object) -> SimpleNamespace:
        return SimpleNamespace(allowed=is_allowed)

    return SimpleNamespace(auth=SimpleNamespace(authenticate=authenticate), policy=SimpleNamespace(decide=decide))


async def test_a_stream_that_cannot_be_judged_ends_and_the_next_one_is_judged_all_the_same():
    live, routes = Live(), {"/a/mcp": a_route(is_broken=True), "/b/mcp": a_route(is_allowed=False), "/c/mcp": a_route()}
    broken, refused, allowed, gone = streams = [Stream(server) for server in "abcd"]
    for stream in streams:
        live.add(stream)  # pyright: ignore[reportArgumentType]
    await end_withdrawn(live, routes, datetime.now(UTC), 0)
    assert [stream.ends for stream in (broken, refused, gone)] == [[CREDENTIAL_WITHDRAWN]] * 3
    assert allowed.ends == []


async def test_calls_come_in_between_many_streams():
    live, streams = Live(), [Stream("a") for _ in range(100)]
    for stream in streams:
        live.add(stream)  # pyright: ignore[reportArgumentType]
    judging = asyncio.ensure_future(end_withdrawn(live, {"/a/mcp": a_route(is_allowed=False)}, datetime.now(UTC), 0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not streams[-1].ends
    await judging
    assert all(stream.ends for stream in streams)


async def test_of_streams_that_open_after_the_reload_those_end_that_were_asked_for_before_it():
    """They were admitted under the old rules; the others under the new ones, and are not judged twice."""
    live, first, late = Live(), Stream("a"), Stream("a")
    live.add(first)  # pyright: ignore[reportArgumentType]
    reloaded = datetime.now(UTC)
    new = Stream("a")
    new.call.started = reloaded + timedelta(microseconds=1)
    judging = asyncio.ensure_future(end_withdrawn(live, {"/a/mcp": a_route(is_allowed=False)}, reloaded, 0.01))
    while not first.ends:  # noqa: ASYNC110 -- another task makes it true
        await asyncio.sleep(0)
    for stream in (late, new):
        live.add(stream)  # pyright: ignore[reportArgumentType]
    await judging
    assert late.ends == [CREDENTIAL_WITHDRAWN]
    assert new.ends == []
