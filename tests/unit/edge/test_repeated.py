"""A head that comes again byte for byte is not parsed again; nobody can tell, whatever packets the bytes come in."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.edge import HttpExchange, Listener
from proxy.edge.connection import Connection
from proxy.edge.repeated import MOST_HEADS, Seen, SeenHeads, seen_in
from proxy.exchange import BodyTooLargeError, ClientGoneError
from proxy.wire.fields import Fields
from tests.bench.wires import Wire

LIMIT = 50_000
POST = b"POST /a?q=1 HTTP/1.1\r\nhost: x\r\n"
PLAIN = POST + b"content-length: 3\r\n\r\n"
Requests = list[tuple[str, str, bytes, tuple[tuple[bytes, bytes], ...], bytes]]


async def served(packets: Sequence[bytes], listener: Listener | None = None) -> tuple[Requests, list[Fields], bytes]:
    """Return the requests that a connection understood, their header objects, and whether it ended with a fault.

    `listener`: one that has seen other connections.
    """
    seen: Requests = []
    heads: list[Fields] = []

    async def handle(exchange: HttpExchange) -> None:
        try:
            body = await exchange.read_body(LIMIT)
        except (BodyTooLargeError, ClientGoneError):
            return
        seen.append((exchange.method, exchange.path, exchange.query, tuple(exchange.headers), body))
        heads.append(exchange.headers)
        await exchange.answer(200, [], body)

    listener, wire = listener or Listener(handle), Wire()
    listener.handle = handle
    connection = Connection(asyncio.get_running_loop(), listener)
    connection.connection_made(wire)
    for packet in packets:
        connection.data_received(packet)
        for _ in range(6):
            await asyncio.sleep(0)
    last = wire.last
    wire.close()
    connection.connection_lost(None)
    await listener_closed(listener)
    return seen, heads, last.split(b"\r\n", 1)[0] if last else b""


async def listener_closed(listener: Listener) -> None:
    """Stop the listener's clock."""
    listener.cancel()
    await asyncio.sleep(0)
    listener._timer.cancel()


async def test_a_repeated_head_is_the_same_object_and_its_body_is_its_own() -> None:
    seen, heads, _ = await served([PLAIN + b"one", PLAIN + b"two", PLAIN + b"six"])
    assert [request[-1] for request in seen] == [b"one", b"two", b"six"]
    assert heads[1] is heads[0]
    assert heads[2] is heads[0]


async def test_heads_that_take_turns_are_each_the_same_object() -> None:
    """As those of a client whose bodies have two lengths."""
    other = POST + b"content-length: 4\r\n\r\n"
    seen, heads, _ = await served([PLAIN + b"one", other + b"four", PLAIN + b"six", other + b"nine"])
    assert [request[-1] for request in seen] == [b"one", b"four", b"six", b"nine"]
    assert heads[2] is heads[0]
    assert heads[3] is heads[1]
    assert heads[1] is not heads[0]


async def test_another_head_is_another_object() -> None:
    other = PLAIN.replace(b"host: x", b"host: y")
    seen, heads, _ = await served([PLAIN + b"one", other + b"two"])
    assert [dict(request[3])[b"host"] for request in seen] == [b"x", b"y"]
    assert heads[1] is not heads[0]


async def test_connections_of_a_listener_share_what_they_have_seen_until_its_clock_ticks() -> None:
    listener = Listener(_nobody)
    first, second = [(await served([PLAIN + b"one"], listener))[1][0] for _ in range(2)]
    assert second is first
    listener.seen.forget()
    assert (await served([PLAIN + b"one"], listener))[1][0] is not first


async def test_head_that_is_known_is_taken_only_with_its_whole_body() -> None:
    listener = Listener(_nobody)
    await served([PLAIN + b"one"], listener)
    seen, _, last = await served([PLAIN + b"on", b"e" + PLAIN + b"two" + PLAIN, b"six"], listener)
    assert [request[-1] for request in seen] == [b"one", b"two", b"six"]
    assert last == b"HTTP/1.1 200 OK"


def test_heads_that_are_kept_are_bounded() -> None:
    heads = SeenHeads()
    for number in range(MOST_HEADS + 1):
        head = POST + b"x-number: %d\r\n\r\n" % number
        heads.keep(Seen(head, len(head) + 1, "POST", ("/a", b""), Fields.of(())))
        assert heads.find(head + b"x") is not None
        assert len(heads) <= MOST_HEADS


async def test_a_head_in_the_middle_of_another_requests_body_is_only_a_body() -> None:
    inner = PLAIN + b"abc"
    outer = POST + b"content-length: %d\r\n\r\n" % len(inner)
    seen, _, _ = await served([inner, outer, inner])
    assert [request[-1] for request in seen] == [b"abc", inner]


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"transfer-encoding: chunked\r\n", id="chunked"),
        pytest.param(b"content-length: 3\r\nconnection: close\r\n", id="last one"),
        pytest.param(b"content-length: 3\r\nexpect: 100-continue\r\n", id="asks first"),
        pytest.param(b"content-length: 3\r\nupgrade: x\r\nconnection: upgrade\r\n", id="upgrade"),
        pytest.param(b"content-length: 4\r\n", id="longer than the packet"),
        pytest.param(b"", id="no length"),
    ],
)
async def test_what_is_not_framed_by_its_length_alone_is_never_remembered(head: bytes) -> None:
    fields = Fields.of([tuple(line.split(b": ")) for line in head.split(b"\r\n") if line])  # pyright: ignore[reportArgumentType]
    exchange = HttpExchange(Connection(asyncio.get_running_loop(), Listener(_nobody)), "POST", ("/a", b""), fields, is_legacy=False)  # fmt: skip
    exchange.keep_alive = b"close" not in head
    assert seen_in(POST + head + b"\r\nabc", exchange) is None
    plain = HttpExchange(exchange._line, "POST", ("/a", b""), Fields.of([(b"content-length", b"3")]), is_legacy=False)
    assert seen_in(PLAIN + b"abc", plain) is not None
    empty = HttpExchange(exchange._line, "POST", ("/a", b""), Fields.of([(b"content-length", b"0")]), is_legacy=False)
    assert seen_in(b"\r\n\r\n", empty) is None


async def _nobody(_: HttpExchange) -> None:
    """Nobody asks."""


REQUESTS = st.sampled_from(
    [
        PLAIN + b"one",
        PLAIN + b"two",
        PLAIN.replace(b"host: x", b"host: y") + b"one",
        PLAIN + PLAIN[:3],
        POST + b"content-length: 0\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"GET /b HTTP/1.1\r\nhost: x\r\n\r\n",
        POST + b"content-length: %d\r\n\r\n" % (len(PLAIN) + 3) + PLAIN + b"one",
        b"\r\n",
        PLAIN + b"on",
        POST + b"content-length: 3\r\ncontent-length: 3\r\n\r\none",
        b"nonsense\r\n\r\n",
    ]
)


@given(st.lists(REQUESTS, max_size=8), st.lists(st.integers(1, 400), max_size=4))
def test_the_same_bytes_in_any_packets_are_the_same_requests(messages: list[bytes], cuts: list[int]) -> None:
    """Byte for byte nothing is ever repeated: that is the parser alone."""
    whole = b"".join(messages)
    slowly = asyncio.run(served([whole[index : index + 1] for index in range(len(whole))]))
    edges = sorted({0, *(cut for cut in cuts if cut < len(whole)), len(whole)})
    for packets in (messages, [whole[a:b] for a, b in pairwise(edges)]):
        for quickly in asyncio.run(served_twice(packets)):
            assert quickly[0] == slowly[0]
            assert quickly[2] == slowly[2]


async def served_twice(packets: Sequence[bytes]) -> list[tuple[Requests, list[Fields], bytes]]:
    """The second connection meets what the first has left behind."""
    listener = Listener(_nobody)
    return [await served(packets, listener) for _ in range(2)]
