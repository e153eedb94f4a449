"""Servers of every kind under one supervisord: behind the bridge, elsewhere, draining; and `postern probe`."""

import json
import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from supervisor_plugin.ports import is_free
from supervisor_plugin.processes import tree
from tests.fakes.fleet import ROOT, TestFleet, is_running, kill, wait_for
from tests.fixtures_postgres import Database
from tests.ports import free_port


@pytest.fixture
def fleet(database: Database) -> Iterator[TestFleet]:
    with TestFleet(database.dsn()) as made:
        yield made


def probe(fleet: TestFleet, name: str, *options: str) -> "subprocess.CompletedProcess[str]":
    environ = {**os.environ, "POSTERN_REGISTRY": str(fleet.paths.registry), "POSTERN_STATE_DIR": str(fleet.paths.state)}
    argv = [str(fleet.paths.postern), "probe", name, *options]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env=environ)


def test_a_stdio_server_runs_behind_the_bridge_which_answers_only_who_has_the_token(fleet: TestFleet):
    health = {"start_budget_s": 30.0, "timeout_s": 10.0, "interval_s": 1.0}
    argv = [sys.executable, "-m", "tests.fakes.everything"]
    port = fleet.add("talk", transport="stdio", command=argv, health=health, env={"GREETING": "hello"})
    fleet.start()
    running = fleet.wait("talk", "running", 60.0)
    assert running["tool_count"] > 5
    assert "2026-07-28" in running["protocol_versions"]
    fleet.is_exactly_declared()

    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    headers = {"accept": "application/json, text/event-stream"}
    refused = httpx2.post(f"http://127.0.0.1:{port}/mcp", json=ping, headers=headers, timeout=10)
    assert refused.status_code in (401, 403)

    result = probe(fleet, "talk", "--json")
    assert result.returncode == 0, result.stderr
    probed = json.loads(result.stdout)
    assert probed["tool_count"] == running["tool_count"]
    assert (probed["fleet"]["status"], probed["fleet"]["since"]) == ("running", running["since"])

    pids = tree(running["pid"])
    assert len(pids) > 1
    kill(running["pid"], signal.SIGKILL)
    fleet.wait("talk", "running", 60.0, restarts=1)
    assert not any(is_running(pid) for pid in pids)
    fleet.stop()
    assert fleet.marked() == []


def test_an_external_server_is_followed_without_a_process(fleet: TestFleet):
    port = free_port()
    port += 900
    fleet.add("far", type="external", command=[], port=None, endpoint=f"http://127.0.0.1:{port}/mcp")
    for key in ("cwd", "env"):
        del fleet.servers["far"][key]
    argv = [sys.executable, "-m", "tests.fakes.tiny_mcp", "--port", str(port)]
    fleet.start()
    assert fleet.wait("far", "failed")["reason"] == "nothing accepts connections"
    with subprocess.Popen(argv, cwd=ROOT) as server:
        try:
            wait_for(lambda: not is_free(port), "it listens")
            running = fleet.wait("far", "running")
            assert (running["tool_count"], running.get("pid")) == (2, None)
            row = fleet.wait_row("far", status="running", can_route=True, type="external")
            assert (row["pid"], row["port"], row["protocol_versions"]) == (None, None, ["2026-07-28"])
            assert fleet.ctl("fleet", "status").returncode == 0
            assert fleet.ctl("fleet", "stop", "far").stdout == "far: stopped\n"
            assert server.poll() is None
            assert fleet.ctl("fleet", "reconcile").returncode == 0
            assert fleet.server("far")["status"] == "stopped"
            assert fleet.ctl("fleet", "start", "far").stdout == "far: running, healthy\n"
            assert "far (external): healthy" in probe(fleet, "far").stdout
        finally:
            server.kill()
    fleet.wait("far", "failed", health="unhealthy", can_route=False)
    down = probe(fleet, "far")
    assert down.returncode == 1
    assert "NOT healthy: nothing accepts connections" in down.stdout
    assert "the fleet says: failed, unhealthy since" in down.stdout
    assert probe(fleet, "nobody").returncode == 3


ENTRY = """insert into audit_entries (format, kind, writer_id, seq, started_at, execution_id, server, http_method,
    auth_method, scopes_required, scopes_held, scopes_matched, instance, prev_hash, row_hash, status, decision, reason,
    completed_at, duration_us, http_status, repeats)
    values (1, $1, '00000000-0000-0000-0000-000000000001', $2, $3, '00000000-0000-0000-0000-000000000002', 'alpha', 'POST',
    'none', '{}', '{}', '{}', 'i', decode(repeat('00', 32), 'hex'), decode(repeat('00', 32), 'hex'), $4, $5, $5,
    $6::timestamptz, $7, $8, $9)"""


def test_a_stop_waits_for_calls_in_flight_and_no_new_one_may_come(fleet: TestFleet):
    fleet.add("alpha", lifecycle={"drain_s": 20.0})
    fleet.start()
    fleet.wait_all()
    now = fleet.rows("select now() as now")[0]["now"]
    fleet.rows(ENTRY, "intent", 1, now, None, None, None, None, None, None)
    stop: dict[str, Any] = {}
    thread = threading.Thread(target=lambda: stop.update(done=fleet.ctl("fleet", "stop", "alpha"), at=time.monotonic()))
    thread.start()
    try:
        fleet.wait_row("alpha", status="draining", can_route=False)
        wait_for(lambda: fleet.server("alpha").get("calls") == 1, "the call is shown")
        assert fleet.server("alpha")["status"] == "draining"
        fleet.rows(ENTRY, "row", 2, now, "success", "allowed", now, 5, 200, 1)
    finally:
        thread.join(40)
    assert stop["done"].stdout == "alpha: stopped\n"
    fleet.wait_row("alpha", status="stopped")


def test_a_drain_ends_with_its_limit(fleet: TestFleet):
    fleet.add("alpha", lifecycle={"drain_s": 1.5})
    fleet.start()
    fleet.wait_all()
    fleet.rows(ENTRY, "intent", 1, fleet.rows("select now() as now")[0]["now"], None, None, None, None, None, None)
    started = time.monotonic()
    assert fleet.ctl("fleet", "stop", "alpha").stdout == "alpha: stopped\n"
    assert 1.5 < time.monotonic() - started < 12


@pytest.mark.skipif(os.getuid() != 0, reason="only root can start servers as other users")
def test_a_server_runs_as_its_declared_user(fleet: TestFleet):
    argv = ["/usr/bin/env", "-S", "sleep 60"]
    fleet.add("alpha", command=argv, cwd="/", lifecycle={"user": "nobody"}, health={"start_budget_s": 20.0})
    fleet.start()
    pid = wait_for(lambda: fleet.server("alpha").get("pid"), "it is spawned")

    def is_nobody() -> bool:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        uids = next(line for line in lines if line.startswith("Uid:")).split()[1:]
        return set(uids) == {str(pwd.getpwnam("nobody").pw_uid)}

    wait_for(is_nobody, "it runs as nobody")
    ignored = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigIgn"))
    assert int(ignored.split()[1], 16) == 0
