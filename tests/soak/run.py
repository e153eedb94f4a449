"""`scripts/soak`: sessions that are opened and abandoned, and what the proxy still holds of them afterwards.

Each client initializes, sends `notifications/initialized`, and is never heard of again; every fourth opens a standing
stream and vanishes without a word. Figures are printed every tenth of the way. Exit codes: 0 flat, 1 not.
"""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from registry.database.migrations import migrate
from tests.fixtures_postgres import PrivatePostgres, discard, fresh_base
from tests.sidecar import Sidecar

IDLE_S = 5.0
SETTLE_S = 90.0
VANISHING = 4
BYTES_PER_SESSION = 200.0
MOST_FDS_MORE = 16
INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "soak", "version": "1"}}


@dataclass(frozen=True)
class Figures:
    """What the proxy holds at one moment."""

    sessions: int
    rss_mib: float
    fds: int
    connections: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.sessions:>8} sessions  {self.rss_mib:>7.1f} MiB  {self.fds:>4} descriptors  "
            f"{self.connections:>4} connections  {self.seconds:>7.1f} s"
        )


class Upstream:
    """A server that keeps only the number of its sessions."""

    def __init__(self) -> None:
        self.opened = 0
        self.ended = 0
        self.streams = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                verb, _headers, body = await read_message(reader)
                if verb == "GET":
                    await self._stream(reader, writer)
                    return
                self.ended += verb == "DELETE"
                writer.write(self._answer(json.loads(body) if body else {}))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _answer(self, message: dict[str, Any]) -> bytes:
        if message.get("method") != "initialize":
            return b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
        self.opened += 1
        info = {"name": "soak", "version": "1"}
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}
        body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nmcp-session-id: soak-{self.opened}\r\n"
        return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.streams += 1
        try:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n: hello\n\n")
            await reader.read()
        finally:
            self.streams -= 1


async def read_message(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    """Return the first word of an HTTP message, its headers and its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return head[0].split(" ")[0], headers, body


class Crowd:
    """Clients that come, say hello, and never come back; `at_once` of them at a time."""

    def __init__(self, sidecar: Sidecar, total: int, at_once: int) -> None:
        self._sidecar = sidecar
        self._left = total
        self._at_once = at_once
        self.done = 0
        self._token = sidecar.token("soak", exp=int(time.time()) + 86_400)

    async def run(self) -> None:
        await asyncio.gather(*(self._walk() for _ in range(self._at_once)))

    async def _walk(self) -> None:
        reader, writer = await self._connect()
        while self._left > 0:
            self._left -= 1
            session = await self._initialize(reader, writer)
            if self._left % VANISHING == 0:
                self._write(writer, "GET", None, session)
                await reader.readuntil(b": hello\n")
                writer.transport.abort()
                reader, writer = await self._connect()
            self.done += 1
        writer.close()

    async def _initialize(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        self._write(writer, "POST", {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE})
        _, headers, _ = await read_message(reader)
        session = headers["mcp-session-id"]
        self._write(writer, "POST", {"jsonrpc": "2.0", "method": "notifications/initialized"}, session)
        await read_message(reader)
        return session

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._sidecar.port)

    def _write(self, writer: asyncio.StreamWriter, verb: str, message: Any, session: str | None = None) -> None:
        body = json.dumps(message).encode() if message else b""
        lines = [
            f"{verb} /soak/mcp HTTP/1.1",
            f"host: 127.0.0.1:{self._sidecar.port}",
            f"authorization: Bearer {self._token}",
            "accept: application/json, text/event-stream",
            *(["content-type: application/json", f"content-length: {len(body)}"] if body else []),
            *([f"mcp-session-id: {session}"] if session else []),
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)


async def soak(root: Path, dsn: str, owner: str, total: int, at_once: int) -> bool:
    """Open and abandon `total` sessions; print what the proxy holds meanwhile; whether it ends up flat."""
    upstream = Upstream()
    port = await upstream.start()
    section = {"type": "external", "endpoint": f"http://127.0.0.1:{port}/mcp", "sessions": {"idle_s": IDLE_S}}
    sidecar = Sidecar(root, dsn, {"soak": section})
    try:
        await asyncio.to_thread(sidecar.start_proxy)
        proxy = psutil.Process(sidecar.processes["proxy"].pid)
        crowd = Crowd(sidecar, total, at_once)
        taken = await _watch(crowd, proxy, total)
        return await _judge(taken, proxy, upstream, owner)
    finally:
        await asyncio.to_thread(sidecar.stop)
        await upstream.stop()


async def _watch(crowd: Crowd, proxy: psutil.Process, total: int) -> list[Figures]:
    begun = time.monotonic()
    taken: list[Figures] = []
    work = asyncio.create_task(crowd.run())
    for tenth in range(1, 11):
        while crowd.done < total * tenth // 10 and not work.done():  # noqa: ASYNC110 -- a look now and then
            await asyncio.sleep(0.05)
        taken.append(figures(proxy, crowd.done, begun))
        print(taken[-1], flush=True)
    await work
    return taken


async def _judge(taken: Sequence[Figures], proxy: psutil.Process, upstream: Upstream, owner: str) -> bool:
    begun = time.monotonic()
    left = await _until_forgotten(upstream, owner)
    last = figures(proxy, taken[-1].sessions, begun)
    grown = last.rss_mib - taken[4].rss_mib
    allowed = max(8.0, (taken[-1].sessions - taken[4].sessions) * BYTES_PER_SESSION / 2**20)
    more_fds = last.fds - taken[0].fds
    print(f"{last}  after the idle timeout")
    print(
        f"memory since the half: {grown:+.1f} MiB (allowed {allowed:.1f}); descriptors since the first tenth: {more_fds:+}"
    )
    print(
        f"sessions of the server: {upstream.opened} opened, {upstream.ended} ended by us; streams left: {upstream.streams}"
    )
    print(f"sessions still open in PostgreSQL: {left}")
    is_told = upstream.ended == upstream.opened and upstream.streams == 0
    return left == 0 and is_told and grown <= allowed and more_fds <= MOST_FDS_MORE


async def _until_forgotten(upstream: Upstream, owner: str) -> int:
    """Wait until every abandoned session is expired and its server told; return how many are still open."""
    database = await asyncpg.connect(owner)
    try:
        deadline = time.monotonic() + SETTLE_S
        while True:
            left = int(await database.fetchval("select count(*) from mcp_sessions where status = 'open'"))
            if (left == 0 and upstream.ended == upstream.opened) or time.monotonic() > deadline:
                return left
            await asyncio.sleep(0.2)
    finally:
        await database.close()


def figures(proxy: psutil.Process, sessions: int, begun: float) -> Figures:
    """Look at the proxy now."""
    with proxy.oneshot():
        rss = proxy.memory_info().rss / 2**20
    return Figures(sessions, rss, proxy.num_fds(), len(proxy.net_connections("tcp")), time.monotonic() - begun)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/soak")
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--at-once", type=int, default=32)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    postgres = PrivatePostgres(fresh_base())
    try:
        postgres.start()
        asyncio.run(migrate(postgres.dsn()))
        with tempfile.TemporaryDirectory() as root:
            work = soak(Path(root), postgres.dsn("postern_proxy"), postgres.dsn(), options.sessions, options.at_once)
            is_flat = asyncio.run(work)
    finally:
        discard(postgres.server)
    print("flat" if is_flat else "NOT flat")
    return 0 if is_flat else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
