"""Whoever dies, by whatever death: the next boot ends with exactly the declared fleet, no leftover and true rows."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor_plugin.client import SupervisorClient
from tests.fakes.fleet import TestFleet, is_running, kill, run_all, wait_for
from tests.fixtures_postgres import Database, PrivatePostgres, run_apart


@pytest.fixture
def fleet(database: Database) -> Iterator[TestFleet]:
    with TestFleet(database.dsn()) as made:
        yield made


def listener_of(fleet: TestFleet) -> int:
    return wait_for(fleet.listener_pid_of_lock, "the listener runs")


def another_listener(fleet: TestFleet, former: int, limit_s: float = 15.0) -> None:
    wait_for(lambda: fleet.listener_pid_of_lock() not in (None, former), "a new listener", limit_s)


def awful_fleet(fleet: TestFleet) -> list[int]:
    """A good server, a deaf one with a grandchild, and a legacy one, all running; return their processes."""
    fleet.add("good")
    fleet.add("deaf", "no-term,grandchild")
    fleet.add("old", "legacy")
    fleet.start()
    fleet.wait_all()
    return [process.identity.pid for process in fleet.marked()]


def test_after_sigkill_to_supervisord_the_listener_ends_the_fleet_and_the_next_boot_is_whole(fleet: TestFleet):
    pids = awful_fleet(fleet)
    assert len(pids) == 4
    listener = listener_of(fleet)
    fleet.kill_supervisord()
    wait_for(lambda: not any(is_running(pid) for pid in [*pids, listener]), "nothing is left", 15.0)
    assert {(row["status"], row["reason"]) for row in fleet.rows()} == {("stopped", "supervisord died")}
    fleet.start_supervisord()
    fleet.wait_all()
    fleet.is_exactly_declared()


def test_after_sigkill_to_supervisord_and_listener_the_next_boot_ends_what_is_left(fleet: TestFleet):
    pids = awful_fleet(fleet)
    good, listener = fleet.server("good")["pid"], listener_of(fleet)
    kill(listener, signal.SIGSTOP)
    fleet.kill_supervisord()
    kill(listener, signal.SIGKILL)
    wait_for(lambda: not is_running(good), "the kernel ends who obeys SIGTERM when its parent dies")
    deaf = [pid for pid in pids if is_running(pid)]
    assert deaf  # what ignores SIGTERM has survived both
    fleet.start_supervisord()
    fleet.wait_all()
    assert not any(is_running(pid) for pid in pids)
    fleet.is_exactly_declared()
    reasons = [event["reason"] for event in fleet.rows("select reason from services_events")]
    assert "its process is gone" in reasons


def test_an_immediate_restart_waits_for_the_old_listener_to_clean_up(fleet: TestFleet):
    awful_fleet(fleet)
    fleet.kill_supervisord()
    fleet.start_supervisord()
    fleet.wait_all()
    fleet.is_exactly_declared()


def test_a_killed_listener_comes_back_and_adopts_what_runs(fleet: TestFleet):
    awful_fleet(fleet)
    before = {name: fleet.server(name)["pid"] for name in fleet.servers}
    listener = listener_of(fleet)
    kill(listener, signal.SIGKILL)
    another_listener(fleet, listener)
    fleet.wait_all()
    assert {name: fleet.server(name)["pid"] for name in fleet.servers} == before
    fleet.is_exactly_declared()


def test_declared_fresh_a_server_is_restarted_instead_of_adopted(fleet: TestFleet):
    fleet.add("kept")
    fleet.add("fresh", lifecycle={"reconcile": "fresh"})
    fleet.start()
    fleet.wait_all()
    kept, fresh = fleet.server("kept")["pid"], fleet.server("fresh")["pid"]
    kill(listener_of(fleet), signal.SIGKILL)
    wait_for(lambda: fleet.server("fresh")["pid"] not in (0, fresh), "fresh has a new process")
    fleet.wait_all()
    assert fleet.server("kept")["pid"] == kept
    fleet.is_exactly_declared()


@pytest.mark.slow
def test_a_listener_killed_at_any_step_of_a_restart_leaves_one_true_fleet(fleet: TestFleet):
    """The listener is killed when it is seen at the step, not after a guessed time."""
    fleet.add("deaf", "no-term", lifecycle={"stop_grace_s": 3.0})
    fleet.add("late", "late")
    fleet.start()
    fleet.wait_all()
    for name, step in (
        ("deaf", "draining"), ("deaf", "stopping"), ("late", "preparing"), ("late", "spawning"), ("late", "checking")
    ):  # fmt: skip
        listener, before = listener_of(fleet), fleet.server(name)["pid"]
        seen = fleet.log_size("postern-fleet")
        said = restart_and_kill_listener_at(fleet, name, step, seen)
        assert said == f"fleet restart: {RESTARTED_MEANWHILE}\n"
        another_listener(fleet, listener)
        fleet.wait_all()
        fleet.is_exactly_declared()
        assert step == "draining" or fleet.server(name)["pid"] != before  # what was begun was brought to its end
        claims = fleet.rows("select 1 from services_events where pid = $1 and status = 'running' and at > "
                            "(select max(at) from services_events where pid = $1 and status = 'stopping')", before)  # fmt: skip
        assert claims == []


RESTARTED_MEANWHILE = "the fleet listener was restarted meanwhile; look at `fleet status` and ask again"


def restart_and_kill_listener_at(fleet: TestFleet, name: str, step: str, seen: int) -> str:
    """Ask for a restart, kill the listener as soon as it is at the step; return what supervisorctl said."""
    listener, said = listener_of(fleet), list[str]()

    def is_there() -> bool:
        if step == "stopping":  # supervisord has sent its SIGTERM; the log says so a moment before
            return fleet.server(name)["program_state"] == "STOPPING"
        return f"-> {step} " in fleet.log_since("postern-fleet", seen, name)

    def kill_in_time() -> None:
        wait_for(is_there, step, poll_s=0.001)
        kill(listener, signal.SIGKILL)

    run_all([lambda: said.append(fleet.ctl("fleet", "restart", name).stdout), kill_in_time])
    return said[0]


def test_what_is_being_stopped_when_the_listener_dies_is_not_called_running_and_stays_stopped(fleet: TestFleet):
    fleet.add("alpha", "no-term", lifecycle={"stop_grace_s": 60.0})
    fleet.start()
    fleet.wait_all()
    pid, listener = fleet.server("alpha")["pid"], listener_of(fleet)
    assert fleet.ctl("stop", "postern-fleet").returncode == 0
    run_apart(SupervisorClient(fleet.paths.socket).call("supervisor.stopProcess", "alpha", False))
    assert fleet.ctl("start", "postern-fleet").returncode == 0
    another_listener(fleet, listener)
    fleet.wait("alpha", "stopping", pid=pid, reason="stopped by an operator")
    kill(pid, signal.SIGKILL)
    fleet.wait("alpha", "stopped")
    fleet.wait_row("alpha", status="stopped", pid=None, reason="stopped by an operator")
    assert fleet.marked() == []
    assert len(fleet.rows("select 1 from services_events where status = 'running'")) == 1


def test_a_hung_or_mad_listener_is_replaced_and_the_servers_notice_nothing(fleet: TestFleet):
    fleet.add("alpha")
    fleet.start()
    conf = fleet.paths.conf
    fleet.wait_all()
    fleet.stop()
    conf.write_text(conf.read_text().replace("listener = postern-fleet", "listener = postern-fleet\nwatchdog_s = 4"))
    fleet.start_supervisord()
    fleet.wait_all()
    pid = fleet.server("alpha")["pid"]
    for harm in (freeze, break_protocol):
        listener = listener_of(fleet)
        harm(listener)
        another_listener(fleet, listener, 25.0)
        fleet.wait("alpha", "running", pid=pid)
    fleet.is_exactly_declared()


def freeze(listener: int) -> None:
    kill(listener, signal.SIGSTOP)


def break_protocol(listener: int) -> None:
    """Write into the pipe on which supervisord expects READY and RESULT only."""
    log = str(Path(f"/proc/{listener}/fd/2").readlink())
    for descriptor in Path(f"/proc/{listener}/fd").iterdir():
        target = str(descriptor.readlink())
        flags = int(Path(f"/proc/{listener}/fdinfo/{descriptor.name}").read_text().split("flags:")[1].split()[0], 8)
        if target.startswith("pipe:") and target != log and flags & os.O_ACCMODE == os.O_WRONLY:
            descriptor.write_bytes(b"hello?\n")
            return
    raise AssertionError("no protocol pipe")


def test_a_reload_of_supervisord_restarts_the_whole_fleet_cleanly(fleet: TestFleet):
    pids = awful_fleet(fleet)
    assert fleet.process is not None
    supervisord = fleet.process.pid
    descriptors = len(list(Path(f"/proc/{supervisord}/fd").iterdir()))
    for _ in range(2):
        fleet.process.send_signal(signal.SIGHUP)
        wait_until_ended(pids)
        fleet.wait_all()
        fleet.is_exactly_declared()
        pids = [process.identity.pid for process in fleet.marked()]
    assert abs(len(list(Path(f"/proc/{supervisord}/fd").iterdir())) - descriptors) <= 1
    assert cpu_share(supervisord) < 0.2


def wait_until_ended(pids: list[int]) -> None:
    wait_for(lambda: not any(is_running(pid) for pid in pids), "the old processes end", 20.0)


def cpu_share(pid: int) -> float:
    """The share of one second that a process spends computing."""

    def ticks() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    first, started = ticks(), time.monotonic()
    wait_for(lambda: time.monotonic() - started > 1.0, "a second")
    return (ticks() - first) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - started)


def test_deaf_servers_stop_together_and_not_one_after_another(fleet: TestFleet):
    for number in range(4):
        fleet.add(f"deaf-{number}", "no-term", lifecycle={"stop_grace_s": 2.0})
    fleet.start()
    fleet.wait_all()
    assert fleet.stop() < 7.0
    assert fleet.marked() == []
    assert {row["status"] for row in fleet.rows()} == {"stopped"}


def test_without_a_database_nothing_starts_and_everything_when_it_is_there(private_postgres: PrivatePostgres):
    with TestFleet(private_postgres.dsn()) as fleet:
        fleet.add("alpha")
        private_postgres.stop()
        fleet.start()
        failed = fleet.wait("alpha", "failed")
        assert failed["reason"].startswith("not without the database")
        assert "PostgreSQL" in fleet.ctl("fleet", "status").stdout
        assert fleet.marked() == []
        private_postgres.start()
        fleet.wait_all()
        fleet.is_exactly_declared()


def test_a_database_that_goes_away_during_start_and_stop_leaves_true_rows(private_postgres: PrivatePostgres):
    with TestFleet(private_postgres.dsn()) as fleet:
        fleet.add("alpha")
        fleet.add("beta")
        fleet.add("gamma")
        fleet.start()
        fleet.wait_all()
        gamma = fleet.server("gamma")["pid"]
        private_postgres.kill()
        health = fleet.ctl("fleet", "health")
        assert (health.returncode, "downtime is not known now" in health.stdout) == (0, True), health.stdout
        assert fleet.ctl("fleet", "stop", "alpha").stdout == "alpha: stopped\n"
        os.kill(fleet.server("beta")["pid"], signal.SIGKILL)
        beta = fleet.wait("beta", "failed")
        assert beta["reason"].startswith("not without the database")
        private_postgres.start()
        fleet.wait("beta", "running")
        fleet.wait_row("alpha", status="stopped", pid=None)
        assert fleet.ctl("fleet", "start", "alpha").returncode == 0
        fleet.is_exactly_declared()
        assert fleet.server("gamma")["pid"] == gamma
        events = fleet.rows("select server, status, reason from services_events order by event_id")
        assert ("alpha", "stopped", "stopped by an operator") in [tuple(event.values()) for event in events]
        assert ("beta", "stopping", "was killed by SIGKILL") in [tuple(event.values()) for event in events]


def test_a_listener_that_dies_while_the_database_is_away_keeps_what_runs(private_postgres: PrivatePostgres):
    with TestFleet(private_postgres.dsn()) as fleet:
        fleet.add("alpha")
        fleet.start()
        fleet.wait_all()
        pid, listener = fleet.server("alpha")["pid"], listener_of(fleet)
        private_postgres.stop()
        kill(listener, signal.SIGKILL)
        another_listener(fleet, listener)
        fleet.wait("alpha", "running", pid=pid)
        private_postgres.start()
        fleet.wait_row("alpha", status="running", pid=pid)
        fleet.is_exactly_declared()


def test_two_fleets_on_one_host_and_database_do_not_fight_over_a_server(database: Database):
    with TestFleet(database.dsn()) as first, TestFleet(database.dsn()) as second:
        first.add("alpha")
        first.start()
        first.wait_all()
        second.servers["alpha"] = {**first.servers["alpha"], "port": first.servers["alpha"]["port"] + 1}
        second.start()
        refused = second.wait("alpha", "failed", 30.0)
        assert f"fleet {first.instance} on this host looks after" in refused["reason"]
        assert first.row("alpha")["pid"] == first.server("alpha")["pid"]
        assert first.row("alpha")["can_route"]
        first.stop()
        second.wait("alpha", "running", 30.0)
        second.is_exactly_declared()


def test_two_fleets_on_two_hosts_share_a_database(database: Database):
    with TestFleet(database.dsn(), host="one") as first, TestFleet(database.dsn(), host="two") as second:
        for fleet in (first, second):
            fleet.add("alpha")
        second.servers["alpha"]["port"] += 5
        first.start()
        second.start()
        first.wait_all()
        second.wait_all()
        wait_for(lambda: [row["can_route"] for row in first.rows()] == [True, True], "both are routed")
        rows = first.rows()
        assert {(row["host"], row["server"]) for row in rows} == {("one", "alpha"), ("two", "alpha")}


@pytest.mark.slow
def test_fifty_servers_start_crash_and_stop_at_once(fleet: TestFleet):
    for number in range(50):
        fleet.add(f"server-{number:02}", health={"start_budget_s": 30.0, "interval_s": 5.0, "timeout_s": 5.0})
    fleet.start()
    fleet.wait_all(limit_s=120.0)
    fleet.is_exactly_declared()
    pids = [process.identity.pid for process in fleet.marked()]
    for pid in pids:
        kill(pid, signal.SIGKILL)
    wait_for(lambda: not set(pids) & {process.identity.pid for process in fleet.marked()}, "the old ones are gone")
    wait_for(lambda: len(fleet.marked()) == 50, "fifty new ones", 120.0)
    fleet.wait_all(limit_s=120.0)
    fleet.is_exactly_declared()
    assert fleet.stop() < 20.0
    assert fleet.marked() == []
