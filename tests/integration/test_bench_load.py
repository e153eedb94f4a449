"""The benchmark's load: what it says to have sent is what arrives."""

import asyncio
import contextlib
import re
import shutil
from pathlib import Path

import pytest

from tests.bench.message import Message
from tests.bench.wrk import INSTALL, Wrk

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(shutil.which("wrk") is None, reason=f"wrk is not installed: {INSTALL}"),
]
SESSION = re.compile(rb"mcp-session-id: (\d+)\r\n", re.IGNORECASE)


async def test_sessions_go_on_where_the_last_visit_ended(tmp_path: Path) -> None:
    """Visits that began anew each time would use the first few of 100,000 sessions, and measure those."""
    seen = list[int]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionResetError):  # how wrk leaves
            while data := await reader.read(65_536):
                if found := SESSION.search(data):
                    seen.append(int(found[1]))
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        wrk, sessions, message = Wrk(tmp_path), [str(number) for number in range(200_000)], Message({}, b"{}")
        first = await asyncio.to_thread(wrk.run, url, message, 2, 1, sessions)
        before = len(seen)
        await asyncio.to_thread(wrk.run, url, message, 2, 1, sessions)
    assert seen[before] - first.answers in {1, 2}  # wrk makes one request that it does not send; there are two callers
    assert sorted(set(seen)) == list(range(1, max(seen) + 1))
