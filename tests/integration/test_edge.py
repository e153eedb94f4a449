"""The proxy's own HTTP server on real sockets: strict about what it takes, patient with nobody, polite at the end."""

import asyncio
import contextlib
import math
import re
import socket
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.edge import HttpExchange, Listener
from proxy.edge.asgi import Receive, Send, serve_asgi
from proxy.edge.connection import MAX_AHEAD, Times
from proxy.exchange import BodyTooLargeError, BrokenRequestError, ClientGoneError

LIMIT = 1000
GET = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n"
LAST = b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nhost: x\r\n"
Handle = Callable[[HttpExchange], Awaitable[None]]


class Desk:
    """Answers with what it was asked; keeps the requests."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, bytes, bytes]] = []

    async def handle(self, exchange: HttpExchange) -> None:
        try:
            body = await exchange.read_body(LIMIT)
        except BodyTooLargeError:
            await exchange.answer(413, [], b"large")
            return
        except BrokenRequestError as error:
            await exchange.answer(400, [], str(error).encode())
            return
        except ClientGoneError:
            return
        self.seen.append((exchange.method, exchange.path, exchange.query, body))
        await exchange.answer(200, [(b"x-seen", b"%d" % len(self.seen))], body or b"-")


@contextlib.asynccontextmanager
async def listening(
    handle: Handle, times: Times | None = None, max_connections: float = math.inf
) -> AsyncGenerator[tuple[Listener, int]]:
    listener = Listener(handle, times=times or Times(), tick_s=0.05, max_connections=max_connections)
    bound = socket.create_server(("127.0.0.1", 0))
    bound.setblocking(False)
    await listener.start(bound)
    try:
        yield listener, bound.getsockname()[1]
    finally:
        await listener.close(1.0)


async def converse(port: int, *parts: bytes, limit_s: float = 5.0) -> bytes:
    """Send the parts, one packet each, half-close nothing; return all bytes until the server closes or falls silent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = b""
    with contextlib.suppress(ConnectionError):
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(limit_s):
            while chunk := await reader.read(65536):
                got += chunk
    writer.close()
    return got


async def poll(is_so: Callable[[], bool], limit_s: float = 5.0) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(limit_s):
        while not is_so():  # noqa: ASYNC110 -- what is waited for has no event
            await asyncio.sleep(0.01)


async def asked(data: bytes, limit_s: float = 5.0) -> tuple[bytes, Desk]:
    """Return what a fresh server answers to these bytes, and what it has seen."""
    desk = Desk()
    async with listening(desk.handle) as (_, port):
        return await converse(port, data, limit_s=limit_s), desk


@pytest.mark.anyio
async def test_requests_of_one_connection_are_answered_in_their_order() -> None:
    """Also where they come in one packet."""
    last = POST + b"connection: close\r\ncontent-length: 3\r\n\r\ntwo"
    answer, desk = await asked(POST + b"content-length: 3\r\n\r\none" + GET + last)
    assert [body for _, _, _, body in desk.seen] == [b"one", b"", b"two"]
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert answer.index(b"x-seen: 1") < answer.index(b"x-seen: 2") < answer.index(b"x-seen: 3")
    assert answer.endswith(b"connection: close\r\ndate: " + answer.rsplit(b"date: ", 1)[1])


@pytest.mark.anyio
async def test_chunked_body_is_read_and_its_trailers_change_nothing() -> None:
    """A trailer named like a header never becomes one."""
    headers: list[tuple[bytes, bytes]] = []
    desk = Desk()

    async def handle(exchange: HttpExchange) -> None:
        await desk.handle(exchange)
        headers.extend(exchange.headers)

    chunked = POST + b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    async with listening(handle) as (_, port):
        await converse(port, chunked + b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nauthorization: Bearer x\r\n\r\n")
    assert desk.seen == [("POST", "/a", b"", b"abcde")]
    assert b"authorization" not in dict(headers)


@pytest.mark.anyio
async def test_requests_with_the_same_head_are_each_read_by_themselves() -> None:
    """The parser is spared a head that it has judged; a body of another length, or another head, is parsed again."""
    head = POST + b"content-length: 5\r\n\r\n"
    alike = [head + body for body in (b"first", b"again", b"\r\n\r\nx", b"GET /")]
    other = [POST.replace(b"/a", b"/b") + b"content-length: 5\r\n\r\nother", POST + b"content-length: 6\r\n\r\nlonger"]
    desk = Desk()
    async with listening(desk.handle) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in (*alike, *other, alike[0], alike[1]):
            writer.write(request)
            body = request.partition(b"\r\n\r\n")[2]
            assert (await reader.readuntil(body)).startswith(b"HTTP/1.1 200")
        writer.write(head + b"short" + b"x")
        assert (await reader.read()).count(b"HTTP/1.1 200") == 1, "what stands behind is no request"
        writer.close()
    bodies = [b"first", b"again", b"\r\n\r\nx", b"GET /", b"other", b"longer", b"first", b"again", b"short"]
    assert [body for _, _, _, body in desk.seen] == bodies
    assert [path for _, path, _, _ in desk.seen] == ["/a"] * 4 + ["/b"] + ["/a"] * 4


REFUSED = {
    "length and coding": (POST + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "coding and length": (POST + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (POST + b"content-length: 3\r\ncontent-length: 3\r\n\r\nabc", 400),
    "list of lengths": (POST + b"content-length: 3, 3\r\n\r\nabc", 400),
    "signed length": (POST + b"content-length: +3\r\n\r\nabc", 400),
    "length too long": (POST + b"content-length: 99999999999999999999999\r\n\r\n", 400),
    "two codings": (POST + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked is not last": (POST + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
    "another coding": (POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "unknown coding": (POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    "coding in HTTP/1.0": (b"POST /a HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 501),
    "space before colon": (POST + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    "folded line": (POST + b"x: a\r\n b\r\n\r\n", 400),
    "bare line feed": (POST + b"x: a\ny: b\r\n\r\n", 400),
    "bare carriage return": (POST + b"x: a\r y\r\n\r\n", 400),
    "NUL in a header": (POST + b"x: a\x00\r\n\r\n", 400),
    "another version": (b"GET /a HTTP/2.0\r\nhost: x\r\n\r\n", 505),
    "no version": (b"GET /a\r\n\r\n", 505),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "unknown method": (b"FROBNICATE /a HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "tunnel": (b"CONNECT x:1 HTTP/1.1\r\nhost: x:1\r\n\r\n", 400),
    "target of another host": (b"GET http://y/a HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "target too long": (b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 414),
    "fragment": (b"GET /a#b HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "empty length": (POST + b"content-length:\r\n\r\nabc", 400),
    "length in hex": (POST + b"content-length: 0x3\r\n\r\nabc", 400),
    "empty coding and length": (POST + b"transfer-encoding:\r\ncontent-length: 3\r\n\r\nabc", 400),
    "coding after a vertical tab": (POST + b"transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "quoted coding": (POST + b'transfer-encoding: "chunked"\r\n\r\n0\r\n\r\n', 501),
    "coding after a comma": (POST + b"transfer-encoding: ,chunked\r\n\r\n0\r\n\r\n", 501),
    "head ends in CR": (POST + b"content-length: 3\r\n\rXabc", 400),
    "line feeds only": (b"GET /a HTTP/1.1\nhost: x\n\n", 400),
    "carriage returns only": (b"GET /a HTTP/1.1\rhost: x\r\r", 400),
    "folded first line": (b"GET /a HTTP/1.1\r\n host: x\r\n\r\n", 400),
    "space in a name": (POST + b"x y: a\r\n\r\n", 400),
    "control in a name": (POST + b"x\x01: a\r\n\r\n", 400),
    "no name": (POST + b": a\r\n\r\n", 400),
    "no colon": (POST + b"xyz\r\n\r\n", 400),
    "control in a value": (POST + b"x: a\x01b\r\n\r\n", 400),
    "delete in a value": (POST + b"x: a\x7fb\r\n\r\n", 400),
    "NUL in a target": (b"GET /a\x00 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "space in a target": (b"GET /a b HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "bytes beyond ASCII in a target": (b"GET /\xc3\xa9 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "userinfo in a target": (b"GET http://u@x/a HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "absolute target, two hosts": (b"GET http://x/a HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", 400),
    "method in small letters": (b"get /a HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "too many headers": (POST + b"x: y\r\n" * 101 + b"\r\n", 431),
    "head too large": (POST + b"x: " + b"y" * 33_000 + b"\r\n\r\n", 431),
    "head without an end": (POST + b"x: " + b"y" * 400_000, 431),
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", REFUSED)
async def test_what_two_servers_could_read_differently_is_refused_and_the_connection_closed(name: str) -> None:
    """Nobody handles it, and what follows on the connection is not read."""
    data, status = REFUSED[name]
    answer, desk = await asked(data + GET)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert b"connection: close" in answer
    assert len(re.findall(rb"HTTP/1\.1 \d", answer)) == 1
    assert desk.seen == []


BROKEN_CHUNKS = {
    "length is no number": b"zz\r\n",
    "length in another notation": b"0x3\r\nabc\r\n0\r\n\r\n",
    "length beyond 64 bits": b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    "space after the length": b"3 \r\nabc\r\n0\r\n\r\n",
    "line feed after the length": b"3\nabc\r\n0\r\n\r\n",
    "line feed after the data": b"3\r\nabc\n0\r\n\r\n",
    "no line end after the data": b"3\r\nabcXX0\r\n\r\n",
    "line feed in an extension": b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "quoted line end in an extension": b'3;a="x\r\ny"\r\nabc\r\n0\r\n\r\n',
    "length in a trailer": b"3\r\nabc\r\n0\r\ncontent-length: 5\r\n\r\n",
    "coding in a trailer": b"3\r\nabc\r\n0\r\ntransfer-encoding: chunked\r\n\r\n",
    "trailer without an end": b"3\r\nabc\r\n0\r\n" + b"x: y\r\n" * 60_000,
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", BROKEN_CHUNKS)
async def test_broken_chunks_never_become_a_request(name: str) -> None:
    """Nor does what follows them, whatever another server would have taken for the next request."""
    answer, desk = await asked(POST + b"transfer-encoding: chunked\r\n\r\n" + BROKEN_CHUNKS[name] + GET)
    assert re.match(rb"HTTP/1\.1 4(00|31) ", answer), answer
    assert b"connection: close" in answer
    assert answer.count(b"HTTP/1.1 ") == 1
    assert desk.seen == []


@pytest.mark.anyio
async def test_broken_chunk_ends_the_request_and_what_came_before_is_answered() -> None:
    """A length that is no number in the middle of a body."""
    answer, desk = await asked(GET + POST + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.count(b"HTTP/1.1") == 2
    assert b"HTTP/1.1 400" in answer
    assert [path for _, path, _, _ in desk.seen] == ["/a"]


@pytest.mark.anyio
async def test_data_after_close_and_after_an_upgrade_is_not_read() -> None:
    """The request itself is answered."""
    for head in (b"connection: close\r\n", b"connection: upgrade\r\nupgrade: h2c\r\n"):
        answer, desk = await asked(b"GET /a HTTP/1.1\r\nhost: x\r\n" + head + b"\r\n" + GET)
        assert (answer.count(b"HTTP/1.1 200"), answer.count(b"HTTP/1.1"), len(desk.seen)) == (1, 1, 1)


@pytest.mark.anyio
@pytest.mark.parametrize(("size", "after"), [(1, b""), (40, b""), (10_000, GET)])
async def test_body_of_a_request_that_asks_for_an_upgrade_is_read(size: int, after: bytes) -> None:
    """Java's HTTP client asks for h2c so with every first request; what follows the body is not read."""
    wish = POST + b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
    for framed in (b"content-length: 5\r\n\r\nhello", b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"):
        data = wish + framed + after
        desk = Desk()
        async with listening(desk.handle) as (_, port):
            answer = await converse(port, *(data[at : at + size] for at in range(0, len(data), size)))
        assert desk.seen == [("POST", "/a", b"", b"hello")]
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"connection: close" in answer


@pytest.mark.anyio
async def test_targets_are_decoded_once_and_split_at_the_first_question_mark() -> None:
    """The absolute form is taken where it names the host of the Host header (RFC 9112 §3.2.2)."""
    close = b"host: x\r\nconnection: close\r\n\r\n"
    for target, expected in (
        (b"/a%2Fb%2520?c=%20?d", ("/a/b%20", b"c=%20?d")),
        (b"http://X/a?b", ("/a", b"b")),
        (b"http://x", ("/", b"")),
        (b"*", ("*", b"")),
    ):
        _, desk = await asked(b"OPTIONS " + target + b" HTTP/1.1\r\n" + close)
        assert [(path, query) for _, path, query, _ in desk.seen] == [expected]


@pytest.mark.anyio
async def test_client_that_waits_for_100_continue_gets_it() -> None:
    """Once, and only as long as nothing of the body is there."""
    desk = Desk()
    async with listening(desk.handle) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + b"expect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writer.close()
    assert desk.seen[0][3] == b"abc"


@pytest.mark.anyio
async def test_connection_ends_with_an_answer_that_came_instead_of_100_continue() -> None:
    """Whether the body still follows is anybody's guess: two guesses would be two requests."""

    async def handle(exchange: HttpExchange) -> None:
        await exchange.answer(401, [], b"no")

    async with listening(handle) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(GET))
        assert b"connection: close" in await reader.readuntil(b"no")
        writer.write(GET)
        assert await reader.read() == b""
        writer.close()


@pytest.mark.anyio
async def test_requests_sent_far_ahead_of_their_answers_end_the_connection() -> None:
    """What was taken is answered; memory for thousands of waiting requests is not to be had for a packet."""
    release = asyncio.Event()

    async def handle(exchange: HttpExchange) -> None:
        await release.wait()
        await exchange.answer(200, [], b"")

    async with listening(handle) as (listener, port):
        client = asyncio.create_task(converse(port, GET * 5000))
        await poll(lambda: any(connection._fault for connection in listener._connections))
        release.set()
        answer = await client
    assert 1 <= answer.count(b"HTTP/1.1 200") <= MAX_AHEAD + 1
    assert answer.count(b"HTTP/1.1 429") == 1


@pytest.mark.anyio
async def test_body_in_tiny_chunks_costs_no_more_than_its_bytes() -> None:
    """An object for every chunk would make ten gigabytes of a hundred bodies."""
    held: list[int] = []

    async def handle(exchange: HttpExchange) -> None:
        body = await exchange.read_body(1 << 20)
        held.append(tracemalloc.get_traced_memory()[1])
        await exchange.answer(200, [], b"%d" % len(body))

    chunks = b"2\r\nab\r\n" * 50_000
    async with listening(handle) as (_, port):
        tracemalloc.start()
        try:
            head = POST + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
            answer = await converse(port, head, chunks, b"0\r\n\r\n")
        finally:
            tracemalloc.stop()
    assert answer.endswith(b"100000")
    assert held[0] < 3_000_000


@pytest.mark.anyio
async def test_status_that_has_no_name_is_answered_all_the_same() -> None:
    """A server may have made it up."""

    async def handle(exchange: HttpExchange) -> None:
        await exchange.answer(499, [], b"")

    async with listening(handle) as (_, port):
        answer = await converse(port, LAST)
    assert answer.startswith(b"HTTP/1.1 499 \r\n")


@pytest.mark.anyio
async def test_http_1_0_gets_no_chunks_and_a_closed_connection() -> None:
    """A stream ends with its connection."""

    async def stream(exchange: HttpExchange) -> None:
        await exchange.open(200, [])
        await exchange.write(b"one")
        await exchange.write(b"two")
        await exchange.close()

    async with listening(stream) as (_, port):
        old = await converse(port, b"GET /a HTTP/1.0\r\n\r\n")
        new = await converse(port, b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert old.endswith(b"\r\n\r\nonetwo")
    assert b"connection: close" in old
    assert new.endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


@pytest.mark.anyio
async def test_head_has_the_length_but_no_body() -> None:
    """And 204 has neither."""

    async def handle(exchange: HttpExchange) -> None:
        await exchange.answer(204 if exchange.path == "/none" else 200, [], b"" if exchange.path == "/none" else b"abc")

    async with listening(handle) as (_, port):
        head = await converse(port, b"HEAD /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        none = await converse(port, b"GET /none HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert b"content-length: 3" in head
    assert head.endswith(b"\r\n\r\n")
    assert b"content-length" not in none


@pytest.mark.anyio
async def test_body_beyond_the_limit_is_refused_and_the_connection_goes_on() -> None:
    """What is beyond is read and dropped, so that the client sees the answer."""
    large = POST + b"content-length: 200000\r\n\r\n" + b"x" * 200_000
    answer, desk = await asked(large + b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413")
    assert answer.count(b"HTTP/1.1 200") == 1
    assert len(desk.seen) == 1


@pytest.mark.anyio
async def test_request_that_is_answered_unread_does_not_spoil_the_next() -> None:
    """Its body is skipped."""

    async def handle(exchange: HttpExchange) -> None:
        await exchange.answer(401, [], b"no")

    async with listening(handle) as (_, port):
        close = b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        answer = await converse(port, POST + b"content-length: 6\r\n\r\nabc", b"def" + close)
    assert answer.count(b"HTTP/1.1 401") == 2


@pytest.mark.anyio
async def test_defect_of_a_handler_is_answered_with_500_and_a_closed_connection() -> None:
    """A handler that returns without an answer has one."""

    async def handle(_exchange: HttpExchange) -> None:
        return

    async with listening(handle) as (_, port):
        answer = await converse(port, GET)
    assert answer.startswith(b"HTTP/1.1 500")


@pytest.mark.anyio
@pytest.mark.parametrize(("has_begun", "status"), [(False, 500), (True, 200)])
async def test_defect_of_an_application_is_logged_and_ends_its_connection(
    caplog, *, has_begun: bool, status: int
) -> None:
    """Whatever it has said until then; the next client is served."""

    async def application(_scope: object, _receive: Receive, send: Send) -> None:
        if has_begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ZeroDivisionError

    async with listening(partial(serve_asgi, application)) as (_, port):
        for _ in range(2):
            answer = await converse(port, GET)
            assert answer.startswith(b"HTTP/1.1 %d " % status)
            assert not answer.endswith(b"0\r\n\r\n"), "a body that was cut off must not look whole"
    assert [record.name for record in caplog.records if record.exc_info] == ["postern.edge"] * 2


@pytest.mark.anyio
async def test_client_that_leaves_is_noticed_while_its_request_is_worked_on() -> None:
    """Without anything being read or written."""
    gone = asyncio.Event()

    async def handle(exchange: HttpExchange) -> None:
        exchange.on_gone(gone.set)
        await gone.wait()

    async with listening(handle) as (_, port):
        _reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        await writer.drain()
        writer.close()
        async with asyncio.timeout(5):
            await gone.wait()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "data",
    [b"", b"GET /a HTT", POST + b"content-length: 9\r\n\r\nabc", GET],
    ids=["silent", "half a head", "half a body", "idle after an answer"],
)
async def test_slow_client_is_cut_off(data: bytes) -> None:
    """Each of the limits ends the connection."""
    desk = Desk()
    async with listening(desk.handle, Times(idle_s=0.2, head_s=0.2, body_s=0.2)) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(5):
                while await reader.read(1000):
                    pass
        writer.close()


@pytest.mark.anyio
async def test_half_a_head_behind_a_request_is_cut_off_too() -> None:
    """It came while the first request was worked on, when no clock was running."""
    begun, release = asyncio.Event(), asyncio.Event()

    async def handle(exchange: HttpExchange) -> None:
        begun.set()
        await release.wait()
        await exchange.answer(200, [], b"done")

    async with listening(handle, Times(idle_s=60, head_s=0.2)) as (listener, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        await begun.wait()
        writer.write(b"GET /a HT")
        await poll(lambda: any(connection._fed_bytes for connection in listener._connections))
        release.set()
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                while await reader.read(1000):
                    pass
        writer.close()


@pytest.mark.anyio
async def test_body_that_only_drips_is_cut_off() -> None:
    """A byte now and then is no progress."""
    desk = Desk()
    async with listening(desk.handle, Times(body_s=0.3)) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + b"content-length: 900\r\n\r\n")
        gone = asyncio.create_task(reader.read())
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(5):
                while not gone.done():
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.05)
        with contextlib.suppress(ConnectionError):
            assert await gone == b""
        writer.close()
    assert desk.seen == []


@pytest.mark.anyio
async def test_half_a_request_behind_another_does_not_end_the_first() -> None:
    """Its sender cannot go on: we do not read."""

    async def handle(exchange: HttpExchange) -> None:
        begun = listener.now
        if exchange.method == "GET":
            await poll(lambda: listener.now > begun + 1.3)
        await exchange.answer(200, [], await exchange.read_body(LIMIT) or b"first")

    async with listening(handle, Times(body_s=1.0)) as (listener, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET + POST + b"content-length: 6\r\n\r\nsec")
        await reader.readuntil(b"first")
        writer.write(b"ond")
        await reader.readuntil(b"second")
        writer.close()


@pytest.mark.anyio
async def test_client_that_reads_nothing_is_cut_off_and_its_handler_goes_on() -> None:
    """A full socket does not hold a handler for ever."""
    ended = asyncio.Event()

    async def handle(exchange: HttpExchange) -> None:
        await exchange.open(200, [])
        for _ in range(200):
            await exchange.write(b"x" * 100_000)
        ended.set()

    async with listening(handle, Times(write_s=0.2)) as (_, port):
        _reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
        writer.write(GET)
        async with asyncio.timeout(5):
            await ended.wait()
        writer.close()


@pytest.mark.anyio
async def test_body_that_nobody_reads_is_left_in_the_socket() -> None:
    """The sender is slowed down, and memory does not grow."""
    release = asyncio.Event()

    async def handle(exchange: HttpExchange) -> None:
        await release.wait()
        await exchange.answer(200, [], b"%d" % len(await exchange.read_body(1 << 24)))

    async with listening(handle) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        size = 12 << 20
        writer.write(POST + b"content-length: %d\r\n\r\n" % size)
        writer.write(bytes(size))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.drain(), 0.5)
        release.set()
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200")
        writer.close()


@pytest.mark.anyio
async def test_one_connection_too_many_closes_an_idle_one_and_no_busy_one() -> None:
    """Whoever only holds connections takes none from a client with a request."""
    release = asyncio.Event()

    async def handle(exchange: HttpExchange) -> None:
        if exchange.path == "/slow":
            await release.wait()
        await exchange.answer(200, [], b"done")

    async with listening(handle, max_connections=3) as (listener, port):
        busy = asyncio.create_task(converse(port, LAST.replace(b"/a", b"/slow")))
        await poll(lambda: any(connection._current for connection in listener._connections))
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        await poll(lambda: len(listener._connections) == 3)
        assert b"done" in await converse(port, LAST)
        release.set()
        assert b"done" in await busy
        for _, writer in idle:
            writer.close()


@pytest.mark.anyio
async def test_drain_closes_idle_connections_and_lets_requests_finish() -> None:
    """The last answer says that it is the last."""
    begun, release = asyncio.Event(), asyncio.Event()

    async def handle(exchange: HttpExchange) -> None:
        if exchange.path == "/slow":
            begun.set()
            await release.wait()
        await exchange.answer(200, [], b"done")

    async with listening(handle) as (listener, port):
        idle, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        await idle.readuntil(b"done")
        busy = asyncio.create_task(converse(port, GET.replace(b"/a", b"/slow") + GET))
        await begun.wait()
        closing = asyncio.create_task(listener.close(5.0))
        assert await idle.read() == b""
        release.set()
        answer = await busy
        await closing
        writer.close()
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", port)
    assert answer.count(b"HTTP/1.1 200") == 1
    assert b"connection: close" in answer


@pytest.mark.anyio
async def test_drain_cancels_what_outlives_its_budget() -> None:
    """The handler sees a cancellation, and the drain waits until it has dealt with it."""
    begun, dealt = asyncio.Event(), asyncio.Event()

    async def handle(exchange: HttpExchange) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            dealt.set()

    async with listening(handle) as (listener, port):
        client = asyncio.create_task(converse(port, GET))
        await begun.wait()
        await listener.close(0.1)
        assert dealt.is_set()
        assert await client == b""


@pytest.mark.anyio
@pytest.mark.parametrize("is_stubborn", [False, True])
async def test_drain_does_not_wait_for_a_client_that_reads_nothing(*, is_stubborn: bool) -> None:
    """Neither for the end of its stream, nor where the handler has a last word for it."""

    async def handle(exchange: HttpExchange) -> None:
        await exchange.open(200, [])
        try:
            while True:
                await exchange.write(b"x" * 100_000)
        except asyncio.CancelledError:
            if is_stubborn:
                await exchange.close()

    listener = Listener(handle, tick_s=0.05)
    bound = socket.create_server(("127.0.0.1", 0))
    bound.setblocking(False)
    await listener.start(bound)
    _reader, writer = await asyncio.open_connection("127.0.0.1", bound.getsockname()[1], limit=1000)
    writer.write(GET)
    await poll(lambda: any(connection._writable is not None for connection in listener._connections))
    async with asyncio.timeout(15):
        await listener.close(0.1)
    writer.transport.abort()


@pytest.mark.anyio
async def test_answer_that_nobody_reads_does_not_keep_its_connection() -> None:
    """The last of a connection: nothing is waited for but the client."""

    async def handle(exchange: HttpExchange) -> None:
        exchange.keep_alive = False
        (connection,) = listener._connections
        connection._transport.set_write_buffer_limits(high=1 << 30)  # so that the answer counts as sent
        await exchange.answer(200, [], bytes(30_000_000))

    async with listening(handle, Times(write_s=0.2)) as (listener, port):
        _reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
        writer.write(GET)
        await writer.drain()
        await poll(lambda: bool(listener._connections))
        await poll(lambda: not listener._connections)
        writer.transport.abort()


@pytest.mark.anyio
async def test_control_character_never_reaches_an_answer() -> None:
    """A header that would end the head early is a defect, not an answer."""

    async def handle(exchange: HttpExchange) -> None:
        with pytest.raises(ValueError, match="control character"):
            await exchange.answer(200, [(b"x", b"a\r\nset-cookie: b")], b"")
        await exchange.answer(500, [], b"caught")

    async with listening(handle) as (_, port):
        answer = await converse(port, GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    assert answer.startswith(b"HTTP/1.1 500")
    assert b"set-cookie" not in answer


MESSAGES = (
    POST
    + b"content-length: 5\r\n\r\nhello"
    + POST
    + b"transfer-encoding: chunked\r\n\r\n5\r\nworld\r\n0\r\n\r\n"
    + b"GET /b?c HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
)


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, len(MESSAGES)), max_size=8))
def test_packets_may_end_anywhere(cuts: list[int]) -> None:
    """The same three requests and answers, whatever the pieces."""
    bounds = [0, *sorted(cuts), len(MESSAGES)]
    parts = [MESSAGES[a:b] for a, b in pairwise(bounds) if a < b]

    async def run() -> tuple[Desk, bytes]:
        desk = Desk()
        async with listening(desk.handle) as (_, port):
            return desk, await converse(port, *parts)

    desk, answer = asyncio.run(run())
    assert [(path, body) for _, path, _, body in desk.seen] == [("/a", b"hello"), ("/a", b"world"), ("/b", b"")]
    assert answer.count(b"HTTP/1.1 200") == 3


@settings(max_examples=80, deadline=None)
@given(
    data=st.one_of(
        st.binary(max_size=300),
        st.lists(st.sampled_from([b"GET ", b"/a", b" HTTP/1.1", b"\r\n", b"host: x", b":", b"\n", b"0", b"content-length: 1",
                                  b"transfer-encoding: chunked", b"\x00", b"POST ", b"\r\n\r\n", b"5\r\nhello"]), max_size=30).map(b"".join),
    )
)  # fmt: skip
def test_no_bytes_break_the_server(data: bytes) -> None:
    """It answers, refuses or waits, and serves the next client."""

    async def run() -> bytes:
        desk = Desk()
        async with listening(desk.handle, Times(idle_s=0.1, head_s=0.1, body_s=0.1)) as (_, port):
            got = await converse(port, data)
            async with asyncio.timeout(10):
                while not (await converse(port, LAST)).startswith(b"HTTP/1.1 200"):
                    pass  # where this machine is busy, the short patience above may end a good client, too
            return got

    got = asyncio.run(run())
    assert got == b"" or got.startswith(b"HTTP/1.1 ")
