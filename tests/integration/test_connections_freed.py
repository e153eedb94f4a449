"""What a closed connection held is free at once, on either side of the proxy: nothing waits for the garbage collector."""

import asyncio
import gc
import socket
import weakref
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress

import pytest

from proxy.edge import HttpExchange, Listener
from proxy.edge.connection import Connection as ClientConnection
from proxy.exchange import ClientGoneError
from proxy.upstream import UpstreamDisconnected, UpstreamLimits, UpstreamPool, UpstreamTarget
from proxy.upstream.connection import Connection as UpstreamConnection
from tests import loops

POST = b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\none"
HALF = POST[:-1]
LAST = POST.replace(b"host: x", b"host: x\r\nconnection: close")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.fixture(params=loops.BOTH)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@contextmanager
def uncollected() -> Generator[None]:
    """Without garbage collector."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_so():  # noqa: ASYNC110 -- what is waited for has no event
            await asyncio.sleep(0.005)


async def answer(exchange: HttpExchange) -> None:
    try:
        body = await exchange.read_body(1000)
    except ClientGoneError:
        return
    await exchange.answer(200, [], body)


class Watched(Listener):
    """Counts its connections, and knows those that live."""

    def watch(self) -> None:
        """Begin."""
        self.count = 0
        self.living = weakref.WeakSet[ClientConnection]()

    def joined(self, connection: ClientConnection, task: "asyncio.Task[None]") -> None:
        self.count += 1
        self.living.add(connection)
        super().joined(connection, task)


@asynccontextmanager
async def listening() -> AsyncGenerator[tuple[Watched, int]]:
    listener = Watched(answer)
    listener.watch()
    bound = socket.create_server(("127.0.0.1", 0))
    bound.setblocking(False)
    await listener.start(bound)
    try:
        yield listener, bound.getsockname()[1]
    finally:
        await listener.close(1.0)


@pytest.mark.parametrize(
    ("data", "answers"),
    [
        pytest.param(POST, 1, id="idle"),
        pytest.param(HALF, 0, id="in the middle of a body"),
        pytest.param(LAST, 1, id="after its last answer"),
        pytest.param(POST + b"nonsense\r\n\r\n", 2, id="after nonsense"),
        pytest.param(b"", 0, id="silent"),
    ],
)
async def test_client_that_is_gone_leaves_nothing_behind(data: bytes, answers: int) -> None:
    async with listening() as (listener, port):
        with uncollected():
            for number in range(3):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(data)
                got = b""
                while got.count(b"HTTP/1.1 ") < answers:
                    got += await reader.read(65536)
                await until(lambda number=number: listener.count > number)
                writer.close()
                await writer.wait_closed()
                await until(lambda: not listener.living)


@pytest.mark.parametrize("parts", [[OK, OK], [OK, OK[:-1]], [OK, OK[:20]], [OK, b""]])
async def test_connection_to_a_server_leaves_nothing_behind(parts: list[bytes]) -> None:
    """Whether the pool closed it, idle, or the server did, in the middle of an answer or before it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            for part in parts:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(part)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        target = UpstreamTarget("http", "127.0.0.1", server.sockets[0].getsockname()[1], "/mcp")
        pool, living = UpstreamPool(target, UpstreamLimits()), weakref.WeakSet[UpstreamConnection]()
        with uncollected():
            assert await asked(pool) == b"ok"
            living.update(pool._connections)
            assert await asked(pool) == (b"ok" if parts[1] == OK else None)
            await pool.aclose()
            await until(lambda: not living)


async def asked(pool: UpstreamPool) -> bytes | None:
    """Return the body of an answer, None where it broke off."""
    try:
        response = await pool.send(b"POST", [], b"")
        return await response.read(10)
    except UpstreamDisconnected:
        return None
