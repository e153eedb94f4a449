"""What becomes of the processes: crashes, caps, idleness, SIGTERM, SIGKILL. Nothing is ever left behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.fakes.bridge import META, TINY, Bridge, descendants, is_alive, message_of, rpc, running_bridge, wait_until


def descriptors(bridge: Bridge) -> int:
    return len(list(Path(f"/proc/{bridge.process.pid}/fd").iterdir()))


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[Bridge]:
    with running_bridge(tmp_path) as bridge:
        yield bridge


def test_a_crash_in_the_middle_of_a_call_is_an_error_and_the_next_call_works(bridge: Bridge):
    response = bridge.call("crash", request_id="c")
    assert (response.status_code, response.json()["error"]["code"], response.json()["id"]) == (502, -31502, "c")
    assert bridge.call("echo").status_code == 200


def test_a_crash_fails_every_call_in_flight(tmp_path: Path):
    journal = tmp_path / "journal"
    with running_bridge(tmp_path, (*TINY, "--journal", str(journal))) as bridge, ThreadPoolExecutor(3) as pool:
        slow = [pool.submit(bridge.call, "sleep", {"seconds": 30}, meta={"progressToken": 1}) for _ in range(3)]
        wait_until(lambda: journal.exists() and journal.read_text().count("start") == 3)
        bridge.call("crash")
        assert {message_of(future.result())["error"]["code"] for future in slow} == {-31502}


def test_a_child_that_keeps_dying_is_held_back_longer_and_longer(bridge: Bridge):
    statuses = [bridge.call("crash").status_code for _ in range(6)]
    assert statuses[:2] == [502, 502]
    assert statuses[-1] == 503
    refused = bridge.call("echo")
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    wait_until(lambda: bridge.call("echo").status_code == 200, 15)


def test_a_dead_child_ends_its_legacy_session(bridge: Bridge):
    session, other = bridge.open_session(), bridge.open_session()
    crashed = session.call("crash")
    assert crashed.status_code == 502
    assert crashed.json()["error"]["code"] == -31502
    gone = session.call("echo")
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, -32001)
    assert other.call("echo").status_code == 200


def test_a_command_that_cannot_be_executed_is_said_so(tmp_path: Path):
    with running_bridge(tmp_path, ("/no/such/command",)) as bridge:
        modern = bridge.call("echo")
        assert (modern.status_code, modern.json()["error"]["code"]) == (502, -31502)
        legacy = bridge.http.post(bridge.url, json=rpc("initialize"))
        assert legacy.status_code == 502
        assert "No such file" in legacy.json()["error"]["message"]


def test_a_command_that_exits_at_once_is_an_error_for_both_eras(tmp_path: Path):
    with running_bridge(tmp_path, (sys.executable, "-c", "raise SystemExit(3)")) as bridge:
        assert bridge.call("echo").status_code == 502
        assert bridge.http.post(bridge.url, json=rpc("initialize")).status_code == 502
        assert not bridge.children()


def test_no_more_sessions_than_allowed(tmp_path: Path):
    with running_bridge(tmp_path, TINY, "--max-children", "2") as bridge:
        first, _ = bridge.open_session(), bridge.open_session()
        full = bridge.http.post(bridge.url, json=rpc("initialize", {}, 2))
        assert (full.status_code, full.json()["error"]["code"], full.json()["id"]) == (503, -31503, 2)
        assert bridge.call("echo").status_code == 200, "the shared child needs no place"
        first.end()
        wait_until(lambda: bridge.http.post(bridge.url, json=rpc("initialize")).status_code == 200)


def test_a_crashed_child_gives_its_place_back(tmp_path: Path):
    with running_bridge(tmp_path, TINY, "--max-children", "1") as bridge:
        for _ in range(3):
            assert bridge.open_session().call("crash").status_code == 502


def test_idle_children_are_ended_and_busy_ones_are_not(tmp_path: Path):
    with running_bridge(tmp_path, TINY, "--idle-s", "0.5") as bridge, ThreadPoolExecutor(2) as pool:
        idle, held, busy = bridge.open_session(), bridge.open_session(), bridge.open_session()
        modern = int(bridge.text("echo").split()[-1])
        abandoned = int(idle.text("echo").split()[-1])
        slow = pool.submit(busy.call, "sleep", {"seconds": 2})
        with held.events() as events:
            next(events)
            wait_until(lambda: not is_alive(modern) and not is_alive(abandoned))
            assert idle.call("echo").status_code == 404
            assert held.call("echo").status_code == 200
            assert slow.result().status_code == 200
        assert bridge.call("echo").status_code == 200, "a new one is started"
        wait_until(lambda: not bridge.children())


def test_sigterm_answers_what_is_in_flight_and_leaves_nothing(tmp_path: Path):
    with running_bridge(tmp_path, (*TINY, "--stubborn")) as bridge, ThreadPoolExecutor(3) as pool:
        session = bridge.open_session()
        slow = [
            pool.submit(bridge.call, "sleep", {"seconds": 30}),
            pool.submit(session.call, "sleep", {"seconds": 30}),
        ]
        grandchild = int(bridge.text("spawn"))
        wait_until(lambda: len(bridge.children()) >= 2)
        left = [*descendants(bridge.process.pid), grandchild]
        assert bridge.stop() == 0
        assert [future.result().status_code for future in slow] == [503, 503]
        assert not [pid for pid in left if is_alive(pid)]


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_sigterm_while_a_child_starts_leaves_nothing(tmp_path: Path, era: str):
    with running_bridge(tmp_path, (*TINY, "--start-delay-s", "60")) as bridge, ThreadPoolExecutor(1) as pool:
        if era == "modern":
            waiting = pool.submit(bridge.call, "echo")
        else:
            waiting = pool.submit(bridge.http.post, bridge.url, json=rpc("initialize"))
        wait_until(bridge.children)
        left = descendants(bridge.process.pid)
        assert bridge.stop() == 0
        assert waiting.result().status_code == 503
        assert not [pid for pid in left if is_alive(pid)]


def test_sigterm_closes_open_streams_at_once(bridge: Bridge):
    session = bridge.open_session()
    with session.events() as events:
        next(events)
        started = time.monotonic()
        assert bridge.stop() == 0
        assert time.monotonic() - started < 5
        assert list(events) == []


def test_sigkill_of_the_bridge_leaves_nothing(tmp_path: Path):
    """Neither stubborn children nor a grandchild that left the session and ignores SIGTERM."""
    with running_bridge(tmp_path, (*TINY, "--stubborn")) as bridge:
        session = bridge.open_session()
        bridge.call("echo")
        grandchildren = [int(session.text("spawn")), int(bridge.text("spawn"))]
        left = [*descendants(bridge.process.pid), *grandchildren]
        assert len(left) >= 5
        bridge.process.kill()
        bridge.process.wait()
        wait_until(lambda: not [pid for pid in left if is_alive(pid)])


def test_a_sweep_for_the_fleets_mark_that_kills_the_bridge_spares_the_warden_which_ends_the_rest(tmp_path: Path):
    with running_bridge(tmp_path, (*TINY, "--stubborn"), environment={"POSTERN_FLEET": "mark"}) as bridge:
        grandchild = int(bridge.text("spawn"))
        left = [*descendants(bridge.process.pid), grandchild]
        marked = {pid for pid in left if b"POSTERN_FLEET=mark" in Path(f"/proc/{pid}/environ").read_bytes()}
        assert bridge.warden() not in marked, "the warden must survive the sweep"
        assert {*bridge.children(), grandchild} <= marked, "the boot scan finds what bridge and warden left"
        bridge.process.kill()
        bridge.process.wait()
        wait_until(lambda: not [pid for pid in left if is_alive(pid)])


def test_sigkill_of_bridge_and_warden_still_ends_the_children(tmp_path: Path):
    with running_bridge(tmp_path, (*TINY, "--stubborn")) as bridge:
        bridge.open_session()
        children = bridge.children()
        os.kill(bridge.warden(), signal.SIGKILL)
        bridge.process.kill()
        bridge.process.wait()
        wait_until(lambda: not [pid for pid in children if is_alive(pid)])


def test_a_warden_that_died_is_replaced_and_knows_the_old_children(tmp_path: Path):
    with running_bridge(tmp_path, (*TINY, "--stubborn")) as bridge:
        session = bridge.open_session()
        grandchild = int(session.text("spawn"))
        old = bridge.warden()
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: not is_alive(old))
        bridge.open_session()
        assert bridge.warden() != old
        bridge.process.kill()
        bridge.process.wait()
        wait_until(lambda: not is_alive(grandchild))


def test_a_grandchild_does_not_outlive_its_session(bridge: Bridge):
    session = bridge.open_session()
    grandchild = int(session.text("spawn"))
    session.end()
    wait_until(lambda: not is_alive(grandchild))


def test_a_stubborn_child_is_killed_after_the_grace(tmp_path: Path):
    journal = tmp_path / "journal"
    with running_bridge(tmp_path, (*TINY, "--stubborn", "--journal", str(journal))) as bridge:
        session = bridge.open_session()
        (pid,) = bridge.children()
        session.end()
        wait_until(lambda: not is_alive(pid))
        assert journal.read_text().split() == ["eof", "term"]


def test_the_child_gets_the_environment_without_our_own_variables(tmp_path: Path):
    environment = {"POSTERN_DATABASE_URL": "postgresql://secret", "NOTES_KEY": "for the server"}
    with running_bridge(tmp_path, environment=environment) as bridge:
        seen = message_of(bridge.call("environment"))["result"]["content"][0]["text"]
        assert "for the server" in seen
        assert "POSTERN_" not in seen
        assert "a-token-for-tests" not in seen


def test_the_token_is_in_no_argument_and_no_log(bridge: Bridge):
    bridge.call("echo", headers={"x-postern-bridge": "guess"})
    assert "a-token-for-tests" not in bridge.log.read_text()
    assert b"a-token-for-tests" not in Path(f"/proc/{bridge.process.pid}/cmdline").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--name", "n", "--port", "0", "--token-file", "TOKEN"], 2, "command must follow"),
        (["--name", "n", "--port", "0", "--token-file", "TOKEN", "--"], 2, "command must follow"),
        (["--name", "n", "--port", "0", "--", "true"], 2, "--token-file"),
        (["--name", "n", "--port", "0", "--host", "0.0.0.0", "--token-file", "TOKEN", "--", "true"], 2, "loopback"),
        (["--name", "n", "--port", "0", "--host", "localhost", "--token-file", "TOKEN", "--", "true"], 2, "--host"),
        (["--name", "n", "--port", "0", "--token-file", "TOKEN", "--idle-s", "0", "--", "true"], 2, "above 0"),
        (["--name", "n", "--port", "0", "--token-file", "MISSING", "--", "true"], 3, "No such file"),
        (["--name", "n", "--port", "0", "--token-file", "EMPTY", "--", "true"], 3, "empty"),
        (["--name", "n", "--port", "TAKEN", "--token-file", "TOKEN", "--", "true"], 3, "in use"),
    ],
)
def test_a_bridge_that_cannot_start_says_why(tmp_path: Path, arguments: list[str], code: int, says: str):
    (tmp_path / "token").write_text("x")
    (tmp_path / "empty").write_text("\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        known = {
            "TOKEN": str(tmp_path / "token"),
            "EMPTY": str(tmp_path / "empty"),
            "MISSING": str(tmp_path / "missing"),
            "TAKEN": str(taken.getsockname()[1]),
        }
        argv = [sys.executable, "-m", "proxy.bridge", *(known.get(word, word) for word in arguments)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_connections_have_no_delayed_small_packets(bridge: Bridge):
    """Without TCP_NODELAY on accepted connections every answer waits 40 ms for an acknowledgement."""
    bridge.call("echo")
    durations: list[float] = []
    for _ in range(20):
        started = time.perf_counter()
        bridge.call("echo")
        durations.append(time.perf_counter() - started)
    assert sorted(durations)[10] < 0.03


def test_many_sessions_opened_and_abandoned_leave_descriptors_flat(tmp_path: Path):
    with running_bridge(tmp_path) as bridge:
        bridge.call("echo")
        before = descriptors(bridge)
        for _ in range(15):
            bridge.open_session().end()
        wait_until(lambda: len(bridge.children()) == 1)
        wait_until(lambda: descriptors(bridge) <= before + 1)


def test_a_client_of_the_wrong_era_does_not_lock_the_child_for_others(bridge: Bridge):
    assert bridge.http.post(bridge.url, json=rpc("tools/list", {"_meta": META})).status_code == 400
    assert bridge.call("echo").status_code == 200
    assert bridge.open_session().call("echo").status_code == 200


def test_a_client_that_sends_half_a_body_and_leaves_harms_nobody(bridge: Bridge):
    url = httpx2.URL(bridge.url)
    with socket.create_connection((url.host, url.port or 0)) as raw:
        raw.sendall(
            b"POST /mcp HTTP/1.1\r\nhost: localhost\r\nx-postern-bridge: a-token-for-tests\r\n"
            b"accept: */*\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{"
        )
    assert bridge.call("echo").status_code == 200
    assert "Traceback" not in bridge.log.read_text()
