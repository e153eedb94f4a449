"""The first process sees which worker hangs."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.sidecar import wait_for

CREW = """
import asyncio, os
from proxy.workers import run_workers

async def serve(worker):
    worker.beat(asyncio.get_running_loop())
    os.write(1, b"%d\\n" % os.getpid())
    await asyncio.Event().wait()

raise SystemExit(run_workers(2, lambda worker: asyncio.run(serve(worker)) or 0, patience_s=2.0))
"""


@pytest.fixture
def crew() -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen([sys.executable, "-c", CREW], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=10)


def test_a_worker_whose_loop_hangs_is_killed_and_replaced_and_the_others_are_left_alone(
    crew: "subprocess.Popen[str]",
) -> None:
    """It would keep its part of the port, and those who meet it would wait for ever."""

    def workers() -> set[int]:
        return {child.pid for child in psutil.Process(crew.pid).children() if child.status() != psutil.STATUS_ZOMBIE}

    assert crew.stdout is not None
    first = {int(crew.stdout.readline()) for _ in range(2)}
    assert first == workers()
    hung = min(first)
    os.kill(hung, signal.SIGSTOP)
    wait_for(lambda: len(workers() - {hung}) == 2, "another takes its place", 15)
    assert not psutil.pid_exists(hung)
    assert first - {hung} < workers()


def test_a_hangup_waits_for_a_worker_that_has_not_begun_to_take_it(crew: "subprocess.Popen[str]") -> None:
    """It would end the worker: a reload that is asked for at the start is one all the same."""
    assert crew.stdout is not None
    first = {int(crew.stdout.readline()) for _ in range(2)}
    crew.send_signal(signal.SIGHUP)
    for pid in first:
        wait_for(lambda pid=pid: is_pending(pid, signal.SIGHUP), "the signal waits")
    assert first == {child.pid for child in psutil.Process(crew.pid).children()}


def is_pending(pid: int, number: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    waiting = next(line for line in lines if line.startswith("ShdPnd:"))
    return bool(int(waiting.split()[1], 16) & 1 << (number - 1))
