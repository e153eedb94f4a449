"""The ordinary life of a fleet under real supervisord: boot, the operator's verbs, changes of the registry, shutdown."""

import http.client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor_plugin.client import SupervisorClient
from tests.fakes.fleet import TestFleet, wait_for
from tests.fixtures_postgres import Database, run_apart


@pytest.fixture
def fleet(database: Database) -> Iterator[TestFleet]:
    with TestFleet(database.dsn()) as made:
        yield made


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def get(fleet: TestFleet, path: str) -> tuple[int, str]:
    connection = UnixConnection(fleet.paths.socket)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_a_declared_fleet_boots_and_ends_without_a_trace(fleet: TestFleet):
    fleet.add("alpha")
    fleet.add("beta", "legacy")
    fleet.start()
    fleet.wait_all()
    fleet.is_exactly_declared()
    alpha, beta = fleet.row("alpha"), fleet.row("beta")
    assert (alpha["tool_count"], alpha["protocol_versions"]) == (2, ["2026-07-28"])
    assert (beta["tool_count"], beta["protocol_versions"]) == (2, ["2025-11-25"])
    assert alpha["pid_start_ticks"] > 0
    assert alpha["binary_identity"] != beta["binary_identity"]
    assert get(fleet, "/fleet")[0] == 200

    fleet.stop()
    assert fleet.marked() == []
    assert {row["status"] for row in fleet.rows()} == {"stopped"}


def test_the_operators_verbs_do_what_they_say_and_exit_accordingly(fleet: TestFleet):
    fleet.add("alpha")
    fleet.add("beta")
    fleet.start()
    fleet.wait_all()
    status = fleet.ctl("fleet", "status")
    assert status.returncode == 0
    assert "gate      open" in status.stdout
    assert [line.split()[:3] for line in status.stdout.splitlines()[-2:]] == [
        ["alpha", "running", "healthy"],
        ["beta", "running", "healthy"],
    ]

    first = fleet.server("alpha")["pid"]
    stopped = fleet.ctl("fleet", "stop", "alpha")
    assert (stopped.returncode, stopped.stdout) == (0, "alpha: stopped\n")
    assert fleet.server("alpha")["held_since"] is not None
    fleet.wait_row("alpha", status="stopped", can_route=False, pid=None)
    assert fleet.ctl("fleet", "status").returncode == 0  # as the operator wants it
    assert get(fleet, "/fleet")[0] == 200

    started = fleet.ctl("fleet", "start", "alpha")
    assert (started.returncode, started.stdout) == (0, "alpha: running, healthy\n")
    second = fleet.server("alpha")["pid"]
    assert second not in (0, first)
    assert fleet.ctl("fleet", "restart", "all").returncode == 0
    assert fleet.server("alpha")["pid"] != second
    assert "nothing to do" in fleet.ctl("fleet", "reconcile").stdout

    health = json.loads(fleet.ctl("fleet", "health", "--since", "10m", "--json").stdout)
    assert health["span_s"] == 600
    assert health["servers"][0]["stopped_s"] > 0
    assert "stopped by an operator" in fleet.ctl("fleet", "explain", "alpha").stdout

    for words, code in (
        (("fleet", "start", "nobody"), 1),
        (("fleet", "status", "nobody"), 1),
        (("fleet", "health", "--since", "soon"), 1),
        (("fleet", "start"), 2),
        (("fleet", "dance"), 2),
    ):
        assert fleet.ctl(*words).returncode == code, words


def test_ordinary_supervisorctl_verbs_keep_their_meaning_and_are_the_operators_will(fleet: TestFleet):
    fleet.add("alpha")
    fleet.add("beta")
    fleet.start()
    fleet.wait_all()
    assert fleet.ctl("stop", "alpha").stdout == "alpha: stopped\n"
    fleet.wait_row("alpha", status="stopped", reason="stopped by an operator")
    assert fleet.ctl("start", "alpha").stdout == "alpha: started\n"
    fleet.wait("alpha", "running")
    assert fleet.ctl("restart", "alpha").stdout == "alpha: stopped\nalpha: started\n"
    assert "alpha: ERROR (already started)" in fleet.ctl("start", "alpha").stdout

    assert fleet.ctl("stop", "alpha").returncode == 0
    assert "beta: running, healthy" in fleet.ctl("fleet", "restart", "beta").stdout
    fleet.ctl("fleet", "reconcile")
    assert fleet.server("alpha")["status"] == "stopped"

    fleet.ctl("signal", "KILL", "beta")
    fleet.wait("beta", "running", restarts=2)


def test_requests_that_are_not_for_this_listener_are_none(fleet: TestFleet):
    """An event that a killed listener did not take is given to the next one, which was not asked."""
    fleet.add("alpha")
    fleet.start()
    fleet.wait_all()
    listener = fleet.listener_pid_of_lock()
    for text in (json.dumps({"id": 1, "to": 1, "op": "stop", "names": ["alpha"]}), "no request", "[]"):
        run_apart(SupervisorClient(fleet.paths.socket).call("supervisor.sendRemoteCommEvent", "postern", text))
    assert "running, healthy" in fleet.ctl("fleet", "explain", "alpha").stdout  # asked later, and answered in order
    assert fleet.listener_pid_of_lock() == listener


def test_no_door_of_supervisord_spawns_a_server_past_the_gate(fleet: TestFleet):
    fleet.add("alpha")
    fleet.start()
    fleet.wait_all()
    fleet.ctl("stop", "alpha")
    fleet.ctl("stop", "postern-fleet")
    assert "ERROR (spawn error)" in fleet.ctl("start", "alpha").stdout
    get(fleet, "/index.html?action=start&processname=alpha")  # the web pages know nothing of our namespace
    refused = wait_for(lambda: fleet.server("alpha").get("spawn_error"), "the web page's start is refused")
    assert "only the fleet listener starts alpha" in refused
    assert fleet.server("alpha")["pid"] == 0
    assert fleet.marked() == []


def test_stopping_works_without_the_listener_and_is_remembered(fleet: TestFleet):
    fleet.add("alpha")
    fleet.add("beta")
    fleet.start()
    fleet.wait_all()
    pid = fleet.server("beta")["pid"]
    assert fleet.ctl("stop", "postern-fleet").returncode == 0
    assert fleet.server("alpha")["status"] == "unknown"
    assert fleet.ctl("fleet", "status").returncode == 3
    assert fleet.ctl("stop", "alpha").stdout == "alpha: stopped\n"
    assert fleet.ctl("start", "postern-fleet").returncode == 0
    fleet.wait("beta", "running", pid=pid)
    fleet.wait("alpha", "stopped")
    fleet.wait_row("alpha", status="stopped", pid=None)


def test_a_changed_registry_touches_only_the_servers_that_changed(fleet: TestFleet):
    for name in ("alpha", "beta", "gamma"):
        fleet.add(name)
    fleet.start()
    fleet.wait_all()
    alpha, beta = fleet.server("alpha")["pid"], fleet.server("beta")["pid"]
    del fleet.servers["gamma"]
    fleet.add("delta")
    fleet.servers["beta"]["env"]["ANSWER"] = "42"
    fleet.servers["alpha"]["description"] = "another text, which no process depends on"
    fleet.declare()
    result = fleet.ctl("fleet", "reconcile")
    assert result.returncode == 0, result.stdout
    fleet.wait_all()
    assert fleet.server("alpha")["pid"] == alpha
    assert wait_for(lambda: fleet.server("beta")["pid"] not in (0, beta), "beta has a new process")
    assert fleet.server("gamma") == {}
    wait_for(lambda: fleet.row("gamma") == {}, "gamma has no row any more")
    fleet.wait("beta", "running")
    fleet.is_exactly_declared()
    assert "nothing to do" in fleet.ctl("fleet", "reconcile").stdout


def test_a_bad_registry_is_refused_and_the_fleet_goes_on_under_the_old_one(fleet: TestFleet):
    fleet.add("alpha")
    fleet.start()
    fleet.wait_all()
    pid = fleet.server("alpha")["pid"]
    fleet.declare("version: 1\nservers:\n  alpha:\n    potr: 5000\n")
    refused = fleet.ctl("fleet", "reconcile")
    assert refused.returncode == 1
    assert "postern.yaml:3:3" in refused.stdout
    assert fleet.server("alpha")["pid"] == pid
    assert "the fleet goes on under the old one" in fleet.ctl("fleet", "status").stdout
    os.kill(pid, 9)
    fleet.wait("alpha", "running", restarts=1)
    fleet.declare()
    assert fleet.ctl("fleet", "reconcile").returncode == 0
    assert "old one" not in fleet.ctl("fleet", "status").stdout


def test_nothing_starts_behind_a_closed_gate_and_everything_when_it_opens(fleet: TestFleet):
    fleet.add("alpha")
    fleet.start()
    fleet.wait_all()
    fleet.stop()
    fleet.declare("version: 1\nserverz: {}\n")
    fleet.start_supervisord()
    wait_for(lambda: (fleet.status() or {}).get("gate", {}).get("reason", "").startswith("registry refused"), "closed")
    shown = fleet.ctl("fleet", "status")
    assert shown.returncode == 3
    assert "gate      CLOSED: registry refused" in shown.stdout
    assert fleet.ctl("start", "alpha").stdout == "alpha: ERROR (spawn error)\n"
    assert get(fleet, "/fleet")[0] == 503
    assert fleet.marked() == []
    fleet.declare()
    fleet.wait_all()
    fleet.is_exactly_declared()


def test_a_server_gets_its_declared_variables_and_nothing_else(fleet: TestFleet):
    env = {"GREETING": "hello", "TOKEN": {"value": "env:TEST_TOKEN", "secret": True}, "WHERE": "{host}:{port}"}
    port = fleet.add("alpha", env=env)
    fleet.environ = {"TEST_TOKEN": "s3cret-value", "DATABASE_URL": "postgresql://nobody@localhost/none"}
    fleet.start()
    fleet.wait_all()
    pid = fleet.server("alpha")["pid"]
    raw = Path(f"/proc/{pid}/environ").read_bytes().decode().rstrip("\0")
    environment = dict(entry.split("=", 1) for entry in raw.split("\0"))
    assert environment.keys() == {
        "PATH", "HOME", "USER", "LOGNAME", "LANG", "POSTERN_FLEET", "POSTERN_SERVER", "POSTERN_RUN",
        "GREETING", "TOKEN", "WHERE", "PID_FILE", "MOOD_FILE",
    }  # fmt: skip
    assert environment["TOKEN"] == "s3cret-value"
    assert environment["WHERE"] == f"127.0.0.1:{port}"
    assert Path(f"/proc/{pid}/cwd").resolve() == Path.cwd()
    assert os.getpgid(pid) == pid
    for path in fleet.base.rglob("*"):
        if path.is_file():
            assert b"s3cret-value" not in path.read_bytes(), path


def test_the_proxy_starts_behind_the_gate_is_kept_and_stops_before_the_servers(fleet: TestFleet):
    fleet.add_proxy()
    fleet.add("alpha")
    fleet.start()
    first = fleet.wait("postern-proxy", "running")["pid"]
    fleet.wait("alpha", "running")
    assert fleet.row("postern-proxy") == {}
    environment = Path(f"/proc/{first}/environ").read_bytes()
    assert b"POSTERN_REGISTRY=" in environment
    assert b"SUPERVISOR_SERVER_URL=" not in environment
    os.kill(first, 9)
    again = fleet.wait("postern-proxy", "running", restarts=1)["pid"]
    assert again != first
    assert fleet.ctl("fleet", "restart", "all").stdout == "alpha: running, healthy\n"
    assert fleet.server("postern-proxy")["pid"] == again
    assert fleet.server("postern-proxy")["reason"] == ""
    assert fleet.ctl("fleet", "reconcile").returncode == 0
    wait_for(lambda: "(1)" in fleet.server("postern-proxy")["reason"], "the proxy was told once, and its word is shown")
    assert "registry: the last reload was refused" in fleet.ctl("fleet", "status").stdout
    fleet.declare("version: 1\nserverz: {}\n")
    assert fleet.ctl("fleet", "reconcile").returncode == 1
    assert fleet.server("postern-proxy")["pid"] == again
    fleet.declare()
    fleet.stop()
    stops = [line for line in fleet.log("supervisord").splitlines() if " stopped: " in line][-3:]
    assert [line.split("stopped: ")[1].split()[0] for line in stops] == ["postern-proxy", "alpha", "postern-fleet"]
    assert fleet.marked() == []


def test_stop_all_and_start_all_of_supervisorctl_mean_the_whole_fleet(fleet: TestFleet):
    fleet.add("alpha")
    fleet.add("beta")
    fleet.start()
    fleet.wait_all()
    fleet.ctl("stop", "all")
    assert fleet.marked() == []
    assert fleet.listener_pid_of_lock() is None
    fleet.ctl("start", "all")  # the servers come with the listener
    fleet.wait_all()
    fleet.is_exactly_declared()
