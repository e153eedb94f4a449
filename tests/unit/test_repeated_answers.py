"""An answer whose head came before byte for byte is not parsed again; nobody can tell, whatever packets it comes in."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream import UpstreamDisconnected, UpstreamError, UpstreamLimits, UpstreamTimeout, UpstreamTooLarge
from proxy.upstream.connection import Connection
from proxy.upstream.head import read_framing
from proxy.upstream.repeated import MOST_BYTES, MOST_HEADS, KnownHeads
from proxy.upstream.response import HIGH_WATER_BYTES, UpstreamResponse
from proxy.wire.fields import Fields
from tests.bench.wires import Wire

START = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
HEAD = START + b"content-length: 3\r\n\r\n"
LIMITS = UpstreamLimits(max_header_bytes=1000, max_body_bytes=100_000)
Outcome = tuple[int, tuple[tuple[bytes, bytes], ...], bytes, str, bool]


@dataclass
class Owner:
    """A pool of what its connections have learnt."""

    known: KnownHeads = field(default_factory=KnownHeads)

    def released(self, connection: Connection) -> None:
        """Nobody waits."""

    def lost(self, connection: Connection) -> None:
        """It is not missed."""


class PausingWire(Wire):
    """Notes whether anybody reads."""

    is_paused = False

    def is_reading(self) -> bool:
        return not self.is_paused

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


@dataclass
class Asked:
    """A request under way."""

    connection: Connection
    wire: PausingWire
    head: "asyncio.Future[UpstreamResponse]"

    def end(self) -> None:
        if self.wire.is_open:
            self.connection.abort(UpstreamDisconnected("the test is over"))


def ask(owner: Owner, limits: UpstreamLimits = LIMITS, *, is_head: bool = False) -> Asked:
    wire = PausingWire()
    connection = Connection(asyncio.get_running_loop(), owner)
    connection.connection_made(wire)
    return Asked(connection, wire, connection.send(b"", limits, is_head=is_head))


async def told(
    owner: Owner, packets: Sequence[bytes], limits: UpstreamLimits = LIMITS, *, is_head: bool = False
) -> Outcome:
    """Return status, headers, body, what went wrong, and whether the connection may be used again."""
    asked, body, status, headers = ask(owner, limits, is_head=is_head), b"", 0, ()
    for packet in packets:
        asked.connection.data_received(packet)
    is_usable = asked.connection.is_usable()
    asked.end()
    try:
        response = await asked.head
        status, headers = response.status, response.headers
        async for chunk in response:
            body += chunk
    except UpstreamError as error:
        return status, headers, body, type(error).__name__, is_usable
    return status, headers, body, "", is_usable


async def learnt(*answers: bytes) -> Owner:
    """Return a pool that has had each of these answers twice."""
    owner = Owner()
    for answer in answers * 2:
        await told(owner, [answer])
    return owner


async def test_a_repeated_head_is_the_same_object_and_its_body_is_its_own() -> None:
    """Also where the body comes later than the head, the first time and then."""
    owner = Owner()
    packets = ([HEAD, b"on", b"e"], [HEAD, b"on", b"e"], [HEAD + b"two"], [HEAD + b"s", b"ix"])
    answers = [await told(owner, each) for each in packets]
    assert [answer[2] for answer in answers] == [b"one", b"one", b"two", b"six"]
    assert all(answer[3:] == ("", True) for answer in answers)
    assert isinstance(answers[2][1], Fields)
    assert answers[2][1] is answers[3][1]


async def test_a_head_that_came_once_is_not_looked_at_any_closer() -> None:
    """Many servers give each answer an id or a time."""
    owner = Owner()
    await told(owner, [HEAD + b"one"])
    assert owner.known.find(HEAD + b"one") is None


async def test_answer_is_there_with_its_head_however_much_of_the_body_is() -> None:
    owner = await learnt(HEAD + b"one")
    for first in (HEAD, HEAD + b"tw"):
        asked = ask(owner)
        asked.connection.data_received(first)
        assert asked.head.done()
        asked.connection.data_received((HEAD + b"two")[len(first) :])
        assert await asked.head.result().read(3) == b"two"
        asked.end()


async def test_what_follows_a_known_answer_closes_its_connection() -> None:
    owner = await learnt(HEAD + b"abc")
    for packets in ([HEAD + b"abc" + HEAD], [HEAD + b"a", b"bc" + HEAD]):
        assert (await told(owner, packets))[2:] == (b"abc", "", False)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(START + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", id="chunked"),
        pytest.param(START + b"connection: close\r\ncontent-length: 3\r\n\r\nabc", id="last one"),
        pytest.param(START + b"upgrade: x\r\ncontent-length: 3\r\n\r\nabc", id="upgrade"),
        pytest.param(
            START.replace(b"application/json", b"text/event-stream") + b"content-length: 0\r\n\r\n", id="events"
        ),
        pytest.param(HEAD.replace(b"200", b"404") + b"abc", id="error"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", id="no body"),
        pytest.param(b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", id="no body, and its length"),
        pytest.param(b"HTTP/1.1 103 Early\r\n\r\n" + HEAD + b"abc", id="after another head"),
        pytest.param(HEAD + b"abc\r\n", id="with an empty line behind"),
        pytest.param(HEAD + b"abc" + HEAD + b"def", id="two"),
        pytest.param(HEAD + b"ab", id="half"),
        pytest.param(START + b"x: " + b"y" * MOST_BYTES + b"\r\ncontent-length: 3\r\n\r\nabc", id="long"),
    ],
)
async def test_what_is_not_one_whole_success_framed_by_its_length_is_never_kept(answer: bytes) -> None:
    owner = Owner()
    for _ in range(3):
        await told(owner, [answer], UpstreamLimits())
    start = answer[: answer.index(b"\r\n\r\n") + 4]
    assert owner.known.find(start) is None


async def test_limits_of_a_request_bind_what_is_known_too() -> None:
    owner = await learnt(HEAD + b"abc")
    few, small = UpstreamLimits(max_header_bytes=40), UpstreamLimits(max_body_bytes=2)
    assert (await told(owner, [HEAD + b"abc"], few))[3] == "UpstreamProtocolError"
    assert (await told(owner, [HEAD + b"abc"], small))[3] == UpstreamTooLarge.__name__
    assert (await told(owner, [HEAD], is_head=True))[2:4] == (b"", "")


async def test_server_that_falls_silent_in_a_known_answer_runs_into_the_idle_limit() -> None:
    asked = ask(await learnt(HEAD + b"abc"), UpstreamLimits(idle_s=0.02))
    asked.connection.data_received(HEAD + b"a")
    with pytest.raises(UpstreamTimeout, match="idle"):
        await asked.head.result().read(3)
    assert not asked.wire.is_open


async def test_known_answer_keeps_its_connection_no_longer_than_the_server_does() -> None:
    answer = HEAD[:-2] + b"keep-alive: timeout=1\r\n\r\nabc"
    asked = ask(await learnt(answer))
    asked.connection.data_received(answer)
    async with asyncio.timeout(2):
        while asked.wire.is_open:  # noqa: ASYNC110 -- a wire tells nobody
            await asyncio.sleep(0.005)


async def test_slow_reader_of_a_known_answer_stops_its_server() -> None:
    head = START + b"content-length: %d\r\n\r\n" % (HIGH_WATER_BYTES + 1)
    body = bytes(HIGH_WATER_BYTES)
    owner = Owner()
    for _ in range(2):
        await told(owner, [head + body + b"x"])
    for packets in ([head, body], [head + body]):
        asked = ask(owner)
        for packet in packets:
            asked.connection.data_received(packet)
        response = asked.head.result()
        assert asked.wire.is_paused
        assert await anext(response) == body
        assert not asked.wire.is_paused
        asked.connection.data_received(b"x")
        assert [chunk async for chunk in response] == [b"x"]
        assert asked.connection.is_usable()
        asked.end()


async def test_heads_that_are_kept_are_bounded() -> None:
    known = KnownHeads()
    for number in range(MOST_HEADS + 1):
        head = START + b"x-number: %d\r\ncontent-length: 3\r\n\r\n" % number
        lines = [(b"x-number", b"%d" % number), (b"content-length", b"3")]
        framing = read_framing(200, lines, is_head=False, max_body_bytes=9)
        for _ in range(2):
            known.learn(head + b"abc", len(head) + 3, 200, lines, framing)
        assert known.find(head + b"xyz") is not None
        assert len(known) <= MOST_HEADS


ANSWERS = st.sampled_from(
    [
        HEAD + b"one",
        HEAD + b"two",
        HEAD.replace(b"json", b"text") + b"one",
        HEAD.replace(b"200 OK", b"404 No") + b"one",
        HEAD + b"on",
        HEAD + b"one" + HEAD,
        HEAD + b"one" + HEAD + b"two",
        HEAD + b"one\r\n",
        b"\r\n" + HEAD + b"one",
        b"HTTP/1.1 103 Early\r\n\r\n" + HEAD + b"one",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        START + b"content-length: 0\r\n\r\n",
        START + b"content-length: 5\r\n\r\n" + HEAD[:5],
        START + b"content-length: 3\r\ncontent-length: 3\r\n\r\none",
        START + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        START + b"content-length: 3\r\nconnection: close\r\n\r\none",
        START + b"content-length: 200000\r\n\r\n",
        START + b"\r\nuntil the end",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"nonsense\r\n\r\n",
    ]
)


@given(st.lists(st.tuples(ANSWERS, st.lists(st.integers(1, 150), max_size=3), st.booleans()), max_size=6))
def test_the_same_bytes_in_any_packets_are_the_same_answer(asked: list[tuple[bytes, list[int], bool]]) -> None:
    """To the parser alone everything is new."""

    async def compare() -> None:
        owner = await learnt(HEAD + b"six", START + b"content-length: 0\r\n\r\n")
        for answer, cuts, is_head in asked:
            edges = sorted({0, *(cut for cut in cuts if cut < len(answer)), len(answer)})
            packets = [answer[a:b] for a, b in pairwise(edges)]
            assert await told(owner, packets, is_head=is_head) == await told(Owner(), packets, is_head=is_head)

    asyncio.run(compare())
