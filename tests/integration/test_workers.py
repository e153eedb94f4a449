"""`proxy.workers: 2`: two processes on one port, each with a chain of its own, one life."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import asyncpg
import psutil
import pytest

from tests.fakes.recorder import Recorder
from tests.sidecar import Sidecar, listens, wait_for


@pytest.fixture
def sidecar(tmp_path: Path, database) -> Iterator[Sidecar]:
    with Recorder() as recorder:
        server = {"type": "external", "endpoint": f"http://127.0.0.1:{recorder.port}/mcp", "tools": {"echo": {}}}
        sidecar = Sidecar(
            tmp_path / "s", database.dsn("postern_proxy"), {"a": server}, registry={"proxy": {"workers": 2}}
        )
        try:
            sidecar.start_proxy()
            yield sidecar
        finally:
            sidecar.stop()


def workers(sidecar: Sidecar) -> set[int]:
    return {child.pid for child in psutil.Process(sidecar.processes["proxy"].pid).children()}


def call_until(sidecar: Sidecar, calls: int) -> None:
    token = sidecar.token("a")
    for number in range(calls):
        assert sidecar.call("a", "echo", {"n": number}, token).status == 200


@pytest.mark.anyio
async def test_both_workers_answer_and_every_call_has_its_row_in_a_chain_that_holds(sidecar, database) -> None:
    """New connections are spread by the kernel; the auditor's tool verifies both chains."""
    wait_for(lambda: len(workers(sidecar)) == 2, "two workers run")
    call_until(sidecar, 40)
    connection = await asyncpg.connect(database.dsn("postern_auditor"))
    try:
        rows = await connection.fetch(
            "select writer_id, count(*) as n from audit_entries where kind = 'row' group by 1"
        )
    finally:
        await connection.close()
    assert sum(row["n"] for row in rows) == 40
    assert len(rows) == 2
    verify = [sys.executable, "-m", "registry.cli", "audit", "--dsn", database.dsn("postern_auditor"), "verify"]
    done = await anyio.run_process(verify, check=False, env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


def test_worker_that_is_killed_is_replaced(sidecar) -> None:
    """The port never closes."""
    first = workers(sidecar)
    victim = min(first)
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(workers(sidecar) - {victim}) == 2, "another worker takes its place")
    assert first - {victim} < workers(sidecar)
    call_until(sidecar, 10)


def test_term_drains_all_and_ends_with_zero(sidecar) -> None:
    """As with one worker."""
    running = workers(sidecar)
    assert sidecar.kill("proxy", signal.SIGTERM) == 0
    assert not any(psutil.pid_exists(pid) for pid in running)
    assert not listens(sidecar.port)


def test_workers_end_when_the_first_process_is_killed(sidecar) -> None:
    """Nobody would be there to stop them."""
    running = workers(sidecar)
    sidecar.kill("proxy", signal.SIGKILL)
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in running), "the workers are gone")


def test_hangup_reaches_every_worker(sidecar) -> None:
    """A reload is one of all."""
    sidecar.servers["a"]["tools"]["write"] = {}
    sidecar.write_registry()
    sidecar.processes["proxy"].send_signal(signal.SIGHUP)
    wait_for(lambda: sidecar.log("proxy").count("registry reloaded") == 2, "both workers have reloaded")


def test_worker_that_cannot_start_ends_the_proxy(sidecar, tmp_path: Path) -> None:
    """With the exit code of the reason, and without trying for ever."""
    sidecar.stop()
    environment = sidecar.environment() | {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    done = subprocess.run(
        [sys.executable, "-m", "registry.cli", "proxy"], env=environment, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 3
