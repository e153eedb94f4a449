"""Identities, marks and ports, on real processes."""

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor_plugin.ports import holder, is_free, open_addresses, parse_address, ports_of
from supervisor_plugin.processes import (
    Identity,
    Marked,
    binary_identity,
    find_program,
    is_alive,
    marked_processes,
    signal_ours,
    start_ticks,
    strays,
    tree,
    wait_until_gone,
)

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


@pytest.fixture
def instance() -> str:
    return f"unit-{os.getpid()}-{time.monotonic_ns()}"


@pytest.fixture
def sleeper(instance: str) -> Iterator["subprocess.Popen[bytes]"]:
    marks = {"POSTERN_FLEET": instance, "POSTERN_SERVER": "alpha", "POSTERN_RUN": "7-70"}
    with subprocess.Popen(SLEEP, stdout=subprocess.PIPE, env={**os.environ, **marks}) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def identity(pid: int) -> Identity:
    return Identity(pid, start_ticks(pid))


def test_a_process_is_alive_until_it_ends_and_a_zombie_is_not(sleeper: "subprocess.Popen[bytes]"):
    process = identity(sleeper.pid)
    assert is_alive(process)
    assert not is_alive(Identity(process.pid, process.ticks + 1))
    sleeper.kill()
    assert wait_until_gone([process], 5.0) == []
    assert not is_alive(process)  # nobody has waited for it yet
    assert Path(f"/proc/{sleeper.pid}").exists()


def test_waiting_ends_with_the_limit_and_names_who_is_left(sleeper: "subprocess.Popen[bytes]"):
    started = time.monotonic()
    assert wait_until_gone([identity(sleeper.pid), Identity(1, 0)], 0.2) == [identity(sleeper.pid)]
    assert 0.15 < time.monotonic() - started < 3


def test_only_a_process_with_our_mark_and_start_time_is_signalled(sleeper: "subprocess.Popen[bytes]", instance: str):
    process = identity(sleeper.pid)
    assert not signal_ours(process, "another fleet", signal.SIGKILL)
    assert not signal_ours(Identity(process.pid, process.ticks + 1), instance, signal.SIGKILL)
    assert not signal_ours(identity(os.getpid()), instance, signal.SIGKILL)
    assert sleeper.poll() is None
    assert signal_ours(process, instance, signal.SIGKILL)
    assert sleeper.wait(5) == -signal.SIGKILL


def test_marks_are_found_wherever_the_process_hangs(sleeper: "subprocess.Popen[bytes]", instance: str):
    (found,) = marked_processes(instance)
    assert found == Marked(identity(sleeper.pid), "alpha", "7-70", os.getpid())
    assert marked_processes(instance[:-1]) == []


def test_a_stray_is_what_no_current_launch_explains():
    owner = Identity(7, 70)
    own = Marked(Identity(7, 70), "alpha", "7-70", 1)
    child = Marked(Identity(8, 80), "alpha", "7-70", 1)
    earlier = Marked(Identity(9, 90), "alpha", "7-60", 1)
    launching = Marked(Identity(7, 70), "alpha", "", 1)
    unmarked_child = Marked(Identity(10, 99), "alpha", "", 7)
    removed = Marked(Identity(11, 99), "beta", "3-30", 1)
    lost = Marked(Identity(12, 99), "alpha", "", 1)
    everything = [own, child, earlier, launching, unmarked_child, removed, lost]
    assert strays(everything, {"alpha": owner}) == [earlier, removed, lost]
    assert strays(everything, {}) == everything


def test_a_tree_holds_descendants_only(sleeper: "subprocess.Popen[bytes]"):
    assert sleeper.pid in tree(os.getpid())
    assert os.getpid() not in tree(sleeper.pid)


def test_a_listener_is_found_by_port_and_by_process():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = holder(port)
        assert found is not None
        assert found.pid == os.getpid()
        assert port in ports_of([os.getpid()])
        assert not is_free(port)
    assert is_free(port)
    assert holder(port) is None


def test_a_wildcard_listener_holds_the_port_too():
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        assert not is_free(port)
        assert open_addresses([os.getpid()], port) == ["0.0.0.0"]


def test_a_loopback_listener_is_open_to_nobody_else():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert open_addresses([os.getpid()], server.getsockname()[1]) == []


@pytest.mark.skipif(sys.byteorder != "little", reason="the words are those of a little-endian machine")
@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0100007F", "127.0.0.1"),
        ("0200A8C0", "192.168.0.2"),
        ("00000000000000000000000001000000", "::1"),
        ("0000000000000000FFFF00000100007F", "::ffff:7f00:1"),
        ("B80D0120000000000000000001000000", "2001:db8::1"),
    ],
)
def test_addresses_of_the_kernels_tables_are_read(text: str, address: str):
    assert parse_address(text) == ipaddress.ip_address(address)


def test_a_replaced_program_has_another_identity(tmp_path: Path):
    program = tmp_path / "serve"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    first = binary_identity((str(program), "x"), None, "")
    assert binary_identity((str(program), "x"), None, "") == first
    assert binary_identity((str(program), "y"), None, "") != first
    (tmp_path / "new").write_text("#!/bin/sh\n")
    (tmp_path / "new").chmod(0o755)
    (tmp_path / "new").replace(program)
    assert binary_identity((str(program), "x"), None, "") != first


def test_a_script_that_is_named_as_an_argument_counts(tmp_path: Path):
    script = tmp_path / "server.py"
    script.write_text("1")
    argv = (sys.executable, "server.py")
    first = binary_identity(argv, str(tmp_path), "")
    script.write_text("22")
    assert binary_identity(argv, str(tmp_path), "") != first


def test_a_program_that_cannot_run_is_refused_with_the_reason(tmp_path: Path):
    plain = tmp_path / "plain"
    plain.write_text("x")
    with pytest.raises(PermissionError, match="is not executable"):
        find_program(str(plain), None, "")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        find_program("./gone", str(tmp_path), "")
    with pytest.raises(FileNotFoundError, match="is not in PATH"):
        find_program("no-such-program-anywhere", None, str(tmp_path))
