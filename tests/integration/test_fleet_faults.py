"""Servers that misbehave in every way we know of, under real supervisord: what the fleet does and what it says."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor_plugin.ports import is_free
from tests.fakes.fleet import ROOT, TestFleet, is_running, kill, wait_for
from tests.fixtures_postgres import Database


@pytest.fixture
def fleet(database: Database) -> Iterator[TestFleet]:
    with TestFleet(database.dsn()) as made:
        yield made


def pids_of(fleet: TestFleet, name: str) -> list[int]:
    file = fleet.base / f"{name}.pids"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def test_servers_that_never_come_up_are_called_failed_with_the_reason_and_leave_nothing(fleet: TestFleet):
    quick = {"start_budget_s": 12.0, "timeout_s": 0.5}
    patient = {"start_budget_s": 40.0}
    slowly = {"restart_backoff_s": 60.0, "restart_backoff_max_s": 60.0}
    for name, mode, words in (
        ("exits", "exit", "exited with status 0 before it was healthy"),
        ("forks", "daemonize", "exited with status 0 before it was healthy"),
        ("mute", "mute", "no answer within 0.5 s"),
        ("web", "not-mcp", "it does not speak MCP"),
        ("busy", "too-many", "HTTP 429: it asks to slow down"),
        ("astray", "other-port", "instead of"),
        ("open", "anywhere", "it listens on 0.0.0.0, where calls can pass the proxy by"),
    ):
        fleet.add(name, mode, health=quick, lifecycle=slowly, display_name=words)
    fleet.add("late", "late", health=patient)
    fleet.add("allowed", "anywhere", health=patient, lifecycle={"beyond_loopback": True})
    fleet.start()
    fleet.wait("late", "running")
    fleet.wait("allowed", "running")
    for name, server in fleet.servers.items():
        if name not in ("late", "allowed"):
            failed = fleet.wait(name, "failed", 30.0)
            assert server["display_name"] in failed["reason"], failed["reason"]
            fleet.wait_row(name, status="failed", health="unhealthy", can_route=False, pid=None)
    assert {process.server for process in fleet.marked()} == {"late", "allowed"}
    assert not any(is_running(pid) for pid in pids_of(fleet, "forks"))
    shown = fleet.ctl("fleet", "status")
    assert shown.returncode == 3
    assert "it listens on port" in fleet.ctl("fleet", "explain", "astray").stdout
    bad = "server not in ('late', 'allowed')"
    assert not fleet.rows(f"select 1 from services_events where {bad} and (status = 'running' or can_route)")
    for name in fleet.servers:
        fleet.cure(name)
    fleet.declare()
    assert fleet.ctl("fleet", "reconcile").returncode == 0
    fleet.wait_all()
    fleet.is_exactly_declared()


def test_a_server_that_cannot_be_executed_says_what_to_change(fleet: TestFleet):
    script = fleet.base / "plain.txt"
    script.write_text("no program\n")
    script.chmod(0o755)
    fleet.add("text", command=[str(script)])
    fleet.add("needy", env={"MISSING": "env:NOT_SET_ANYWHERE"})
    fleet.environ = {"NOT_SET_ANYWHERE": "for the gate only"}
    fleet.start()
    failed = wait_for(
        lambda: fleet.server("text").get("reason", "").startswith("could not be launched") or None, "text"
    )
    assert failed
    assert "Exec format error" in fleet.server("text")["reason"]
    fleet.wait("needy", "running")
    script.unlink()
    fleet.wait("text", "held")
    assert "does not exist" in fleet.server("text")["reason"]


def test_a_crashed_server_is_back_at_once_and_a_crash_loop_is_held(fleet: TestFleet):
    fleet.add("solid")
    fleet.add("frail", "crash", lifecycle={"crash_limit": 2})
    fleet.start()
    fleet.wait_all()
    pid = fleet.server("solid")["pid"]
    os.kill(pid, signal.SIGKILL)
    started = time.monotonic()
    back = fleet.wait("solid", "running", restarts=1)
    assert time.monotonic() - started < 8
    assert back["pid"] != pid
    reasons = [event["reason"] for event in fleet.rows("select reason from services_events where server = 'solid'")]
    assert "was killed by SIGKILL" in reasons

    held = fleet.wait("frail", "held", 40.0)
    assert held["reason"] == "held after 2 failures in 30 s; last: exited with status 7"
    assert held["down_since"] is not None
    assert "stays down until `fleet start frail`" in fleet.ctl("fleet", "explain", "frail").stdout
    assert fleet.ctl("fleet", "start", "frail").stdout == "frail: running, healthy\n"
    assert fleet.ctl("fleet", "stop", "frail").returncode == 0
    fleet.cure("frail")
    fleet.declare()
    assert fleet.ctl("fleet", "reconcile").returncode == 0
    assert fleet.ctl("fleet", "start", "frail").returncode == 0
    fleet.is_exactly_declared()


def test_an_unhealthy_server_is_degraded_first_and_restarted_after_the_threshold(fleet: TestFleet):
    fleet.add("moody", "moody", health={"interval_s": 1.0})
    fleet.start()
    pid = fleet.wait("moody", "running")["pid"]
    fleet.mood("moody", "500")
    fleet.wait("moody", "running", health="degraded")
    fleet.mood("moody", "")
    fleet.wait("moody", "running", health="healthy", failures=0, pid=pid)

    fleet.mood("moody", "hang")
    wait_for(lambda: fleet.server("moody").get("status") not in ("running", "unknown"), "it is restarted")
    fleet.mood("moody", "")
    back = fleet.wait("moody", "running", health="healthy")
    assert back["pid"] != pid
    events = fleet.rows("select status, health, can_route, reason from services_events where server = 'moody'")
    assert any(event["health"] == "degraded" and event["can_route"] for event in events)
    assert any("unhealthy, 3 checks in a row: no answer within 1 s" in (event["reason"] or "") for event in events)
    fleet.is_exactly_declared()


def test_a_server_that_ignores_sigterm_is_killed_after_its_grace_with_everything_it_forked(fleet: TestFleet):
    fleet.add("deaf", "no-term,grandchild")
    fleet.start()
    fleet.wait_all()
    pids = pids_of(fleet, "deaf")
    assert len(pids) == 2
    started = time.monotonic()
    assert fleet.ctl("fleet", "stop", "deaf").stdout == "deaf: stopped\n"
    assert 0.9 < time.monotonic() - started < 12
    assert not any(is_running(pid) for pid in pids)
    fleet.wait_row("deaf", status="stopped", pid=None)
    assert fleet.marked() == []
    assert fleet.ctl("fleet", "start", "deaf").stdout == "deaf: running, healthy\n"
    fleet.is_exactly_declared()


def test_a_stranger_on_the_port_is_named_and_never_touched(fleet: TestFleet):
    port = fleet.add("alpha", lifecycle={"crash_limit": 2})
    listen = (
        f"import socket, time; s = socket.create_server(('127.0.0.1', {port})); print('up', flush=True); time.sleep(99)"
    )
    with subprocess.Popen([sys.executable, "-c", listen], stdout=subprocess.PIPE) as stranger:
        try:
            assert stranger.stdout is not None
            stranger.stdout.readline()
            fleet.start()
            fleet.wait("alpha", "held", 60.0)
            reason = fleet.server("alpha")["reason"]
            assert f"port {port} is held by pid {stranger.pid}" in reason
            assert "not ours" in reason
            assert stranger.poll() is None
        finally:
            stranger.kill()
    assert "alpha: running, healthy" in fleet.ctl("fleet", "start", "alpha").stdout
    fleet.is_exactly_declared()


def test_an_orphan_of_ours_on_the_port_is_ended(fleet: TestFleet):
    port = fleet.add("alpha")
    marks = {"POSTERN_FLEET": fleet.instance, "POSTERN_SERVER": "alpha", "POSTERN_RUN": "1-1"}
    argv = [sys.executable, "-m", "tests.fakes.tiny_mcp", "--port", str(port), "--mode", "no-term"]
    with subprocess.Popen(argv, cwd=ROOT, env={**os.environ, **marks}) as orphan:
        try:
            wait_for(lambda: not is_free(port), "the orphan listens")
            fleet.start()
            fleet.wait("alpha", "running")
            assert orphan.wait(5) == -signal.SIGKILL
        finally:
            orphan.kill()
    fleet.is_exactly_declared()


def test_a_replaced_program_is_noticed_by_reconcile_and_at_boot(fleet: TestFleet):
    program = fleet.base / "server.py"
    program.write_text(
        "from tests.fakes import tiny_mcp\nimport runpy\nrunpy.run_module('tests.fakes.tiny_mcp', run_name='__main__')\n"
    )
    fleet.add("alpha", command=[sys.executable, str(program), "--port", "{port}"], env={"PYTHONPATH": str(ROOT)})
    fleet.add("beta")
    fleet.start()
    fleet.wait_all()
    alpha, beta = fleet.server("alpha")["pid"], fleet.server("beta")["pid"]

    def replace() -> None:
        (fleet.base / "new.py").write_text(program.read_text() + "# a newer one\n")
        (fleet.base / "new.py").replace(program)

    replace()
    assert "was replaced" in fleet.ctl("fleet", "reconcile").stdout
    second = wait_for(
        lambda: (pid := fleet.server("alpha")["pid"]) not in (0, alpha) and pid, "alpha has a new process"
    )
    fleet.wait("alpha", "running", pid=second)
    fleet.wait_row("alpha", status="running", pid=second)
    replace()
    listener = fleet.listener_pid_of_lock()
    assert listener is not None
    kill(listener, signal.SIGKILL)
    wait_for(lambda: fleet.server("alpha")["pid"] not in (0, second), "alpha has a third process")
    fleet.wait("alpha", "running")
    assert fleet.server("beta")["pid"] == beta
    fleet.is_exactly_declared()


def test_a_recycled_pid_in_a_row_is_never_signalled_and_the_time_nobody_looked_counts_as_down(fleet: TestFleet):
    fleet.add("alpha")
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"]) as innocent:
        try:
            fleet.rows(
                """insert into services (host, server, instance, type, status, health, can_route, pid, pid_start_ticks,
                   boot_id, since, checked_at, updated_at)
                   select $1, name, $2, 'internal', 'running', 'healthy', true, $3, 1, $4, at, at, at
                     from unnest(array['alpha', 'gone']) as name, (select now() - interval '2 hours' as at) as earlier""",
                fleet.host, fleet.instance, innocent.pid, boot_id,
            )  # fmt: skip
            fleet.start()
            fleet.wait("alpha", "running")
            fleet.is_exactly_declared()
            assert innocent.poll() is None
            reasons = [
                event["reason"] for event in fleet.rows("select reason from services_events where server = 'alpha'")
            ]
            assert "its process is gone" in reasons
            health = json.loads(fleet.ctl("fleet", "health", "--json").stdout)["servers"][0]
            assert health["down_s"] == pytest.approx(7200, abs=300)
            assert health["outages"] == 1
        finally:
            innocent.kill()


def test_limits_and_working_directory_reach_the_process(fleet: TestFleet):
    limits = {"memory_bytes": 512 << 20, "open_files": 99}
    fleet.add("alpha", lifecycle=limits, cwd=str(fleet.base), env={"PYTHONPATH": str(ROOT)})
    fleet.add("beta", env={"PYTHONPATH": str(ROOT)})
    del fleet.servers["beta"]["cwd"]
    fleet.start()
    pid = fleet.wait("alpha", "running")["pid"]
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    found = {line[:26].strip(): line[26:].split()[:2] for line in lines}
    assert found["Max address space"] == [str(512 << 20)] * 2
    assert found["Max open files"] == ["99"] * 2
    assert found["Max core file size"] == ["0"] * 2
    beta = fleet.wait("beta", "running")["pid"]  # the registry's directory, and not the one supervisord was started in
    assert {Path(f"/proc/{each}/cwd").resolve() for each in (pid, beta)} == {fleet.base.resolve()}


def test_a_full_disk_costs_log_lines_and_neither_supervisord_nor_the_fleet(fleet: TestFleet):
    """No file may grow any more: to a program that is what a full disk is."""
    fleet.add("calm")
    fleet.start()
    fleet.wait_all()
    assert fleet.process is not None
    before, listener = fleet.server("calm")["pid"], fleet.listener_pid_of_lock()
    assert listener is not None
    limits = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in (fleet.process.pid, listener)}
    for pid, (_, hard) in limits.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
    fleet.add("late")
    fleet.declare()
    refused = fleet.ctl("fleet", "reconcile")
    assert refused.returncode == 1
    assert f"cannot write {fleet.paths.programs / 'late.conf'}: File too large" in refused.stdout
    kill(listener, signal.SIGKILL)  # supervisord has much to say about that
    again = wait_for(lambda: fleet.listener_pid_of_lock() not in (None, listener) and fleet.listener_pid_of_lock(), "2")
    assert fleet.process.poll() is None
    for pid in (fleet.process.pid, again):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limits[fleet.process.pid])
    fleet.wait("late", "running")
    fleet.is_exactly_declared()
    assert fleet.server("calm")["pid"] == before
    assert not [*fleet.paths.programs.glob(".*"), *fleet.paths.sections.glob(".*")]


def test_a_removed_log_directory_is_made_again_and_keeps_nothing_from_starting(fleet: TestFleet):
    """Somebody made room on the disk; the next one to start would have been the listener."""
    fleet.add("alpha")
    fleet.start()
    fleet.wait_all()
    shutil.rmtree(fleet.paths.logs)
    assert fleet.ctl("fleet", "restart", "alpha").returncode == 0
    listener = fleet.listener_pid_of_lock()
    assert listener is not None
    kill(listener, signal.SIGKILL)
    wait_for(lambda: fleet.listener_pid_of_lock() not in (None, listener), "the listener is back")
    fleet.wait_all()
    fleet.is_exactly_declared()
    assert (fleet.paths.logs / "alpha.log").exists()
    assert fleet.paths.logs.stat().st_mode & 0o777 == 0o700


def test_removed_program_files_do_not_end_the_proxy(fleet: TestFleet):
    """They are generated, so somebody will remove them; the proxy is declared by nothing else."""
    fleet.add("alpha")
    fleet.add_proxy()
    fleet.start()
    fleet.wait("alpha", "running")
    pid = fleet.wait("postern-proxy", "running")["pid"]
    texts = {path: path.read_text() for path in fleet.paths.programs.iterdir()}
    shutil.rmtree(fleet.paths.programs)
    refused = fleet.ctl("fleet", "reconcile")
    assert refused.returncode == 1
    assert "postern-proxy.conf was removed: `postern down` and `postern up` write it again" in refused.stdout
    assert fleet.server("postern-proxy")["pid"] == pid
    fleet.paths.programs.mkdir()
    proxy = fleet.paths.programs / "postern-proxy.conf"
    proxy.write_text(texts[proxy])
    assert fleet.ctl("fleet", "reconcile").returncode == 0
    assert {path: path.read_text() for path in fleet.paths.programs.iterdir()} == texts
    assert fleet.server("postern-proxy")["pid"] == pid


def test_a_supervisord_that_does_not_answer_is_said_to_be_so(fleet: TestFleet):
    """Stopped, swapped out or blocked by its disk: an operator who asks must not wait for ever."""
    fleet.start()
    assert fleet.process is not None
    wait_for(fleet.status, "it answers")
    fleet.process.send_signal(signal.SIGSTOP)
    try:
        shown = fleet.ctl("fleet", "restart", "all", limit_s=20.0)
    finally:
        fleet.process.send_signal(signal.SIGCONT)
    assert shown.returncode == 4
    assert "supervisord does not answer within 5 s" in shown.stdout
