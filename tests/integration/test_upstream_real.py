"""The upstream pool against real sockets that follow a script, on both event loops."""

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from proxy.upstream import (
    UpstreamBusy,
    UpstreamDisconnected,
    UpstreamInvalidRequest,
    UpstreamLimits,
    UpstreamPool,
    UpstreamProtocolError,
    UpstreamTarget,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamUnreachable,
)
from tests import loops

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.fixture(params=loops.BOTH)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@dataclass
class Peer:
    """One accepted connection of the scripted server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> bytes:
        """Read one whole request; IncompleteReadError where the client went away."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0)
        return head + await self.reader.readexactly(length)

    async def say(self, *parts: bytes) -> None:
        """Send each part in a segment of its own."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def gone(self) -> None:
        """Return once the client has closed."""
        with suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


Script = Callable[[Peer], Awaitable[None]]


@dataclass
class Upstream:
    port: int
    accepted: int = 0


@asynccontextmanager
async def upstream(script: Script, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Upstream]:
    """Serve every connection by the script; a connection ends when its script does."""
    state = Upstream(0)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        state.accepted += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await script(Peer(reader, writer))
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)
    assert not [result for result in results if isinstance(result, Exception)]


@asynccontextmanager
async def pool_to(state: Upstream, **limits: Any) -> AsyncGenerator[UpstreamPool]:
    pool = UpstreamPool(UpstreamTarget("http", "127.0.0.1", state.port, "/mcp"), UpstreamLimits(**limits))
    try:
        yield pool
    finally:
        await pool.aclose()
        assert pool.stats().open == 0


@asynccontextmanager
async def answering(*parts: bytes, **limits: Any) -> AsyncGenerator[UpstreamPool]:
    """A pool to a server that answers each request with the parts and keeps the connection."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(*parts)

    async with upstream(script) as state, pool_to(state, **limits) as pool:
        yield pool


@asynccontextmanager
async def closing_after(*parts: bytes, **limits: Any) -> AsyncGenerator[UpstreamPool]:
    """A pool to a server that closes after the parts."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(*parts)
        peer.writer.close()
        await peer.gone()

    async with upstream(script) as state, pool_to(state, **limits) as pool:
        yield pool


async def until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not fact():  # noqa: ASYNC110 - the fact is a plain value of a server
            await asyncio.sleep(0.005)


async def post(pool: UpstreamPool, body: bytes = b"{}") -> tuple[int, bytes]:
    response = await pool.send(b"POST", [], body)
    return response.status, await response.read(1 << 20)


async def test_requests_one_after_another_share_a_connection():
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(OK)

    async with upstream(script) as state, pool_to(state) as pool:
        for _ in range(5):
            assert await post(pool) == (200, b"ok")
        assert state.accepted == 1
        assert pool.stats().idle == 1


async def test_header_names_come_back_in_lower_case_and_in_order():
    async with answering(b"HTTP/1.1 200 OK\r\nX-B: 1\r\nx-a: 2\r\nX-B: 3\r\nContent-Length: 0\r\n\r\n") as pool:
        response = await pool.send(b"POST", [], b"")
        assert response.headers[:3] == ((b"x-b", b"1"), (b"x-a", b"2"), (b"x-b", b"3"))
        assert await response.read(1) == b""


async def test_an_answer_in_single_bytes_is_the_same_answer():
    raw = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nx-trailer: 1\r\n\r\n"
    async with answering(*(bytes([byte]) for byte in raw)) as pool:
        for _ in range(2):
            response = await pool.send(b"POST", [], b"{}")
            assert await response.read(100) == b"abcde"
            assert b"x-trailer" not in dict(response.headers)
        assert pool.stats().open == 1


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_an_answer_without_body_leaves_the_connection_usable(status: bytes):
    async with answering(b"HTTP/1.1 " + status + b"\r\n\r\n") as pool:
        for _ in range(2):
            response = await pool.send(b"POST", [], b"{}")
            assert await response.read(1) == b""
        assert pool.stats().open == 1


async def test_a_head_request_does_not_wait_for_the_body_that_its_length_announces():
    async with answering(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n") as pool:
        for _ in range(2):
            response = await pool.send(b"HEAD", [], b"")
            assert await response.read(1) == b""


async def test_a_body_that_ends_with_the_connection_is_whole():
    async with closing_after(b"HTTP/1.1 200 OK\r\n\r\nab", b"cd") as pool:
        assert await post(pool) == (200, b"abcd")
        assert await post(pool) == (200, b"abcd")


async def test_interim_answers_are_skipped():
    async with answering(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" + OK) as pool:
        response = await pool.send(b"POST", [], b"{}")
        assert (response.status, response.headers) == (200, ((b"content-length", b"2"),))


async def test_a_redirect_is_an_answer_and_is_not_followed():
    async with answering(b"HTTP/1.1 307 R\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n") as pool:
        assert await post(pool) == (307, b"")


async def test_events_pass_as_they_arrive():
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        await peer.say(b"3\r\none\r\n")
        await go.wait()
        await peer.say(b"3\r\ntwo\r\n0\r\n\r\n")
        await peer.gone()

    async with upstream(script) as state, pool_to(state) as pool:
        response = await pool.send(b"POST", [], b"{}")
        assert await anext(response) == b"one"
        go.set()
        assert [chunk async for chunk in response] == [b"two"]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTP/1.1 200 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nokk",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx : a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
        b"HTTP/1.1 200 OK\nx: a\n\n",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 700 Odd\r\n\r\n",
        b"HTTP/1.1 020 Odd\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000,
        b"HTTP/1.1 200 " + b"a" * 70_000,
        b"HTTP/1.1 103 Early\r\nx: y\r\n\r\n" * 20_000,
    ],
)
async def test_an_answer_that_is_not_the_http_we_asked_for_is_an_error_that_admits_sending(answer: bytes):
    async with answering(answer, first_byte_s=5.0) as pool:
        with pytest.raises(UpstreamProtocolError) as caught:
            await post(pool)
        assert caught.value.sent


@pytest.mark.parametrize(
    "rest",
    [
        b"zz\r\nab\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"-1\r\n",
        b"fffffffffffffffff1\r\n",
        b"3;" + b"x" * 900_000,
        b"0\r\nx: " + b"y" * 900_000,
    ],
)
async def test_bad_chunking_is_told_to_the_reader(rest: bytes):
    async with answering(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n", rest) as pool:
        response = await pool.send(b"POST", [], b"{}")
        with pytest.raises(UpstreamProtocolError):
            await response.read(1 << 20)


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nconte",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
    ],
)
async def test_a_connection_that_closes_in_the_middle_is_never_a_whole_answer(start: bytes):
    async with closing_after(start) as pool:
        with pytest.raises(UpstreamDisconnected) as caught:
            await post(pool)
        assert caught.value.sent


async def test_what_arrived_before_the_break_is_read_before_the_error():
    async with closing_after(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab") as pool:
        response = await pool.send(b"POST", [], b"{}")
        assert await anext(response) == b"ab"
        with pytest.raises(UpstreamDisconnected):
            await anext(response)


async def test_a_second_answer_closes_the_connection_and_reaches_nobody():
    async with answering(OK + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil") as pool:
        assert await post(pool) == (200, b"ok")
        assert pool.stats().idle == 0
        assert await post(pool) == (200, b"ok")


async def test_bytes_that_nobody_asked_for_close_an_idle_connection():
    go, said = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK)
        await go.wait()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
        said.set()
        await peer.gone()

    async with upstream(script) as state, pool_to(state) as pool:
        assert await post(pool) == (200, b"ok")
        go.set()
        await said.wait()
        await until(lambda: pool.stats().open == 0)


async def test_a_connection_that_the_server_closed_while_idle_is_replaced_before_anything_is_sent():
    """The end of file is in the kernel, and the loop has had no turn to see it."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        async with pool_to(Upstream(listener.getsockname()[1])) as pool:
            for _ in range(10):
                request = asyncio.create_task(post(pool))
                peer, _ = await loop.sock_accept(listener)
                with peer:
                    assert await loop.sock_recv(peer, 4096)
                    await loop.sock_sendall(peer, OK)
                    assert await request == (200, b"ok")


async def test_a_request_is_never_sent_twice():
    async def script(peer: Peer) -> None:
        await peer.request()

    async with upstream(script) as state, pool_to(state) as pool:
        with pytest.raises(UpstreamDisconnected) as caught:
            await post(pool)
        assert caught.value.sent
        assert state.accepted == 1


async def test_connection_close_is_honoured():
    async with answering(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok") as pool:
        assert await post(pool) == (200, b"ok")
        assert pool.stats().idle == 0


async def test_an_idle_connection_is_retired():
    async with answering(OK, keepalive_s=0.02) as pool:
        assert await post(pool) == (200, b"ok")
        assert pool.stats().idle == 1
        await until(lambda: pool.stats().open == 0)


async def test_an_answer_before_the_request_was_taken_whole_does_not_leave_a_usable_connection():
    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.say(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
        await asyncio.Event().wait()

    async with upstream(script) as state, pool_to(state) as pool:
        assert await post(pool, b"x" * 30_000_000) == (413, b"")
        assert pool.stats().idle == 0


async def test_nobody_listening_is_unreachable_and_nothing_was_sent():
    async with upstream(Peer.gone) as state:
        pass
    async with pool_to(state) as pool:
        with pytest.raises(UpstreamUnreachable) as caught:
            await post(pool)
        assert not caught.value.sent


async def test_a_name_that_does_not_resolve_is_unreachable():
    for host in ("no-such-host.invalid", "a" * 70 + ".invalid", "bad..name"):
        pool = UpstreamPool(UpstreamTarget("http", host, 80, "/"), UpstreamLimits())
        with pytest.raises(UpstreamUnreachable):
            await post(pool)
        await pool.aclose()
        assert pool.stats().open == 0


@pytest.mark.parametrize(
    ("phase", "parts", "limits"),
    [
        ("first_byte", (), {"first_byte_s": 0.05}),
        ("first_byte", (b"HTTP/1.1 200 OK\r\n",), {"first_byte_s": 0.05}),
        ("idle", (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab",), {"idle_s": 0.05}),
        ("total", (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab",), {"total_s": 0.05}),
        ("total", (), {"total_s": 0.05}),
    ],
)
async def test_each_limit_of_time_names_itself(phase: str, parts: tuple[bytes, ...], limits: dict[str, float]):
    async with answering(*parts, **limits) as pool:
        with pytest.raises(UpstreamTimeout) as caught:
            await post(pool)
        assert caught.value.phase == phase
        assert caught.value.sent
        await until(lambda: pool.stats().open == 0)


async def test_a_stream_that_keeps_talking_outlives_the_idle_limit_but_not_the_total_one():
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            await peer.say(b"1\r\n.\r\n")
            await asyncio.sleep(0.02)

    async with upstream(script) as state, pool_to(state, idle_s=0.1, total_s=0.4) as pool:
        response = await pool.send(b"POST", [], b"{}")
        with pytest.raises(UpstreamTimeout) as caught:
            await response.read(1 << 20)
        assert caught.value.phase == "total"


async def test_limits_of_one_request_replace_those_of_the_pool():
    async with answering() as pool:
        with pytest.raises(UpstreamTimeout):
            await pool.send(b"POST", [], b"{}", limits=UpstreamLimits(first_byte_s=0.05))


async def test_a_body_over_the_limit_closes_the_connection():
    chunk = b"400\r\n" + b"x" * 1024 + b"\r\n"
    async with answering(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", *[chunk] * 10) as pool:
        response = await pool.send(b"POST", [], b"{}")
        with pytest.raises(UpstreamTooLarge):
            await response.read(5000)
        await until(lambda: pool.stats().open == 0)


@pytest.mark.parametrize(
    "head",
    [
        b"content-length: 2000\r\n\r\n" + b"x" * 10,
        b"transfer-encoding: chunked\r\n\r\n7d0\r\n" + b"x" * 2000,
        b"\r\n" + b"x" * 2000,
    ],
)
async def test_the_body_limit_of_the_pool_binds_every_framing(head: bytes):
    async with answering(b"HTTP/1.1 200 OK\r\n" + head, max_body_bytes=1000) as pool:
        with pytest.raises(UpstreamTooLarge):
            await post(pool)


async def test_a_slow_reader_stops_a_fast_upstream():
    written = 0

    async def script(peer: Peer) -> None:
        nonlocal written
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(1000):
            await peer.say(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            written += 65536
        await peer.say(b"0\r\n\r\n")
        await peer.gone()

    async with upstream(script) as state, pool_to(state, idle_s=0.3) as pool:
        response = await pool.send(b"POST", [], b"{}")
        seen = -1
        while seen != written:  # the upstream has stopped, for longer than the idle limit
            seen = written
            await asyncio.sleep(0.4)
        assert 0 < written < 20_000_000
        assert sum([len(chunk) async for chunk in response]) == 65_536_000
        assert pool.stats().idle == 1


async def test_abandoning_an_answer_tells_the_upstream():
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
        await peer.gone()
        gone.set()

    async with upstream(script) as state, pool_to(state) as pool:
        async with await pool.send(b"POST", [], b"{}") as response:
            assert await anext(response) == b"a"
        async with asyncio.timeout(5):
            await gone.wait()
        with pytest.raises(UpstreamDisconnected):
            await response.read(100)


async def test_closing_an_answer_that_is_whole_keeps_the_connection():
    async with answering(OK) as pool:
        response = await pool.send(b"POST", [], b"{}")
        await response.aclose()
        assert pool.stats().idle == 1


async def test_cancelling_a_request_tells_the_upstream():
    asked, gone = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.gone()
        gone.set()

    async with upstream(script) as state, pool_to(state) as pool:
        task = asyncio.create_task(post(pool))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5):
            await gone.wait()


async def test_no_more_connections_than_allowed_and_the_line_moves_in_order():
    concurrent = peak = 0

    async def script(peer: Peer) -> None:
        nonlocal concurrent, peak
        while True:
            body = (await peer.request())[-3:]
            concurrent += 1
            peak = max(peak, concurrent)
            await asyncio.sleep(0.002)
            concurrent -= 1
            await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n" + body)

    async with upstream(script) as state, pool_to(state, max_connections=3) as pool:
        done: list[int] = []

        async def one(number: int) -> None:
            assert await post(pool, b"%03d" % number) == (200, b"%03d" % number)
            done.append(number)

        await asyncio.gather(*(one(number) for number in range(30)))
        assert state.accepted == peak == 3
        assert all(abs(number - position) < 6 for position, number in enumerate(done))


async def test_waiting_for_a_connection_is_bounded_in_time_and_in_number():
    async with answering(max_connections=1, acquire_s=0.05, max_waiting=1) as pool:
        first = asyncio.create_task(post(pool))
        await until(lambda: pool.stats().open == 1)
        second = asyncio.create_task(post(pool))
        await until(lambda: pool.stats().waiting == 1)
        with pytest.raises(UpstreamBusy, match="too many"):
            await post(pool)
        with pytest.raises(UpstreamBusy, match="in time") as caught:
            await second
        assert not caught.value.sent
        assert pool.stats().waiting == 0
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


async def test_a_place_freed_by_a_failure_goes_to_the_next_in_line():
    async with closing_after(b"", max_connections=1) as pool:
        results = await asyncio.gather(*(post(pool) for _ in range(5)), return_exceptions=True)
        assert [type(result) for result in results] == [UpstreamDisconnected] * 5


async def test_cancelled_waiters_lose_no_place():
    async with answering(OK, max_connections=2) as pool:
        for round_ in range(20):
            tasks = [asyncio.create_task(post(pool)) for _ in range(10)]
            for _ in range(round_):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert results[1::2] == [(200, b"ok")] * 5
        assert pool.stats().waiting == 0
        await until(lambda: pool.stats().open == pool.stats().idle)


async def test_a_request_cancelled_at_any_moment_of_its_connect_gives_its_place_back():
    """Whatever the loop has done by then: the socket is there but nobody was told yet, or the other way round."""
    async with answering(OK, max_connections=1000) as pool:
        for ticks in range(12):
            for _ in range(10):
                task = asyncio.create_task(post(pool))
                for _ in range(ticks):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await until(lambda: pool.stats().open == pool.stats().idle)


async def test_a_closed_pool_fails_what_is_under_way_and_what_comes_after():
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    async with upstream(script) as state, pool_to(state, max_connections=1) as pool:
        under_way, waiting = (asyncio.create_task(post(pool)) for _ in range(2))
        await until(lambda: pool.stats().waiting == 1)
        await pool.aclose()
        with pytest.raises(UpstreamDisconnected):
            await under_way
        with pytest.raises(UpstreamUnreachable):
            await waiting
        with pytest.raises(UpstreamUnreachable):
            await post(pool)


async def test_an_invalid_request_opens_no_connection():
    async with answering(OK) as pool:
        with pytest.raises(UpstreamInvalidRequest):
            await pool.send(b"POST", [(b"x", b"a\r\nb: c")], b"")
        with pytest.raises(UpstreamInvalidRequest):
            await pool.send(b"POST", [], b"", path=b"/a b")
        assert pool.stats().open == 0


async def test_a_path_of_its_own_and_the_upstreams_host_are_sent():
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.say(OK)
        await peer.gone()

    async with upstream(script) as state, pool_to(state) as pool:
        await pool.send(b"GET", [(b"accept", b"text/event-stream")], b"", path=b"/other?x=1")
        assert seen[0].startswith(b"GET /other?x=1 HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n" % state.port)


# --- TLS


def certificate(folder: Path, host: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the server's and a trusting client's context."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "cert.pem"
    pem.write_bytes(
        cert.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=str(pem))


@asynccontextmanager
async def tls_pool(
    script: Script, server: ssl.SSLContext, client: ssl.SSLContext | None
) -> AsyncGenerator[UpstreamPool]:
    async with upstream(script, server) as state:
        target = UpstreamTarget("https", "127.0.0.1", state.port, "/mcp")
        pool = UpstreamPool(target, UpstreamLimits(), client)
        yield pool
        await pool.aclose()
        assert pool.stats().open == 0


async def answer_forever(peer: Peer) -> None:
    while True:
        await peer.request()
        await peer.say(OK)


async def test_tls_connections_are_checked_and_kept(tmp_path: Path):
    server, client = certificate(tmp_path, "127.0.0.1")
    async with tls_pool(answer_forever, server, client) as pool:
        for _ in range(3):
            assert await post(pool) == (200, b"ok")
        assert pool.stats().open == 1


async def test_an_untrusted_certificate_is_unreachable_and_nothing_was_sent(tmp_path: Path):
    server, _ = certificate(tmp_path, "127.0.0.1")
    async with tls_pool(answer_forever, server, None) as pool:
        with pytest.raises(UpstreamUnreachable, match="certificate"):
            await post(pool)


async def test_a_certificate_for_another_host_is_unreachable(tmp_path: Path):
    server, client = certificate(tmp_path, "127.0.0.2")
    async with tls_pool(answer_forever, server, client) as pool:
        with pytest.raises(UpstreamUnreachable, match="certificate"):
            await post(pool)


async def test_a_tls_pool_to_a_plain_server_is_unreachable():
    async def script(peer: Peer) -> None:
        await peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.gone()

    async with upstream(script) as state:
        pool = UpstreamPool(UpstreamTarget("https", "127.0.0.1", state.port, "/"), UpstreamLimits())
        with pytest.raises(UpstreamUnreachable):
            await post(pool)
        await pool.aclose()


async def test_a_handshake_that_never_ends_runs_into_the_connect_limit():
    async with upstream(Peer.gone) as state:
        target = UpstreamTarget("https", "127.0.0.1", state.port, "/")
        pool = UpstreamPool(target, UpstreamLimits(connect_s=0.1))
        with pytest.raises(UpstreamTimeout) as caught:
            await post(pool)
        assert (caught.value.phase, caught.value.sent) == ("connect", False)
        await pool.aclose()
        assert pool.stats().open == 0
