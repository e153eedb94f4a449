"""Load from wrk: one closed loop of keep-alive connections, for some seconds."""

import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.message import Message

SCRIPT = Path(__file__).with_name("load.lua")
INSTALL = "apt-get install wrk nginx-light libnginx-mod-http-js"


class MissingToolError(Exception):
    """A program of the bench is not installed; the message says how to get it."""


class BrokenLoadError(Exception):
    """The load did not get the answers that it should."""


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw. Latencies are those of a closed loop: no correction for requests that were not sent."""

    answers: int
    seconds: float
    p50_us: float
    p99_us: float
    mean_us: float
    cpu_s: float


def require(*programs: str) -> None:
    """Raise MissingToolError with the install line unless all are there."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        raise MissingToolError(f"missing: {', '.join(missing)}. Debian, Ubuntu: {INSTALL}")


class Wrk:
    """Writes what wrk reads into `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._turns = Counter[str]()

    def run(self, url: str, message: Message, connections: int, seconds: int, sessions: Sequence[str] = ()) -> Load:
        """Send the message over and over, each time in the next of the sessions, if there are any.

        They go on where the last run of that address ended, so that in the course of time all are in use.
        Raises BrokenLoadError where any answer is not 2xx or none came.
        """
        headers, body = self._folder / "headers", self._folder / "body"
        headers.write_text("".join(f"{name}: {value}\n" for name, value in message.headers.items()), encoding="utf-8")
        body.write_bytes(message.body)
        environment = {"PATH": os.defpath, "BENCH_HEADERS": str(headers), "BENCH_BODY": str(body)}
        if sessions:
            file = self._folder / "sessions"
            file.write_text("\n".join(sessions), encoding="ascii")
            environment |= {"BENCH_SESSIONS": str(file), "BENCH_TURN": str(self._turns[url])}
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(SCRIPT), url]
        before = os.times()
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=seconds + 60
        )
        after = os.times()
        cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
        if done.returncode:
            raise BrokenLoadError(f"wrk {url}: {done.stdout}{done.stderr}")
        seen = json.loads(done.stdout.strip().splitlines()[-1])
        if seen["statuses"] or seen["broken"] or not seen["answers"]:
            raise BrokenLoadError(f"{url} at {connections} connections: {seen}")
        self._turns[url] += seen["answers"]
        return Load(seen["answers"], seen["duration_us"] / 1e6, seen["p50_us"], seen["p99_us"], seen["mean_us"], cpu_s)
