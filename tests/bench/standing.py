"""Clients that listen and say nothing more: so many `subscriptions/listen` streams, open until standard input closes.

    python -m tests.bench.standing --doors N --streams N [--at-once 64]

The doors come on standard input, as lines `URL TOKEN`; the streams are spread over them.
Prints the number of streams once all of them have had their first event.
"""

import argparse
import asyncio
import sys
from dataclasses import dataclass
from itertools import cycle, islice
from urllib.parse import urlsplit

import uvloop

from tests.bench.message import listen

LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Door:
    """Where to listen, and with which token."""

    url: str
    token: str


class Crowd:
    """Opens streams; `at_once` are being opened at a time."""

    def __init__(self, at_once: int) -> None:
        self._turns = asyncio.Semaphore(at_once)
        self._writers: list[asyncio.StreamWriter] = []

    async def open(self, door: Door) -> None:
        """Open one stream, and keep it."""
        message, parts = listen(), urlsplit(door.url)
        headers = {**message.headers, "host": parts.netloc, "authorization": f"Bearer {door.token}"}
        headers["content-length"] = str(len(message.body))
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        async with self._turns:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            self._writers.append(writer)
            writer.write(f"POST {parts.path} HTTP/1.1\r\n{lines}\r\n".encode() + message.body)
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head.split(b"\r\n", 1)[0]:
                raise SystemExit(f"a stream was refused: {(head + await reader.read(2000)).decode()}")
            await reader.readuntil(b"acknowledged")


async def hold(doors: list[Door], streams: int, at_once: int) -> None:
    """Open everything, say so, and wait for the end of standard input."""
    crowd = Crowd(at_once)
    async with asyncio.timeout(LIMIT_S):
        await asyncio.gather(*(crowd.open(door) for door in islice(cycle(doors), streams)))
    sys.stdout.write(f"{streams}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.standing")
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--doors", type=int, required=True)
    parser.add_argument("--at-once", type=int, default=64)
    options = parser.parse_args()
    doors = [Door(*sys.stdin.readline().split()) for _ in range(options.doors)]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(hold(doors, options.streams, options.at_once))


if __name__ == "__main__":
    main()
