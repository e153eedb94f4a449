"""What postmaster.pid says, whoever wrote it."""

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from registry.database.postmaster import PidFile, find_postmaster, parse_pid_file, read_pid_file, serves

WHOLE = "4711\n/base/data\n1795405253\n5432\n/base/run\n\n   770050         6\nready   \n"


def test_a_whole_file_is_read():
    assert parse_pid_file(WHOLE) == PidFile(pid=4711, socket_dir="/base/run", status="ready")


def test_a_file_that_is_being_written_has_no_status_yet():
    assert parse_pid_file("4711\n/base/data\n") == PidFile(pid=4711, socket_dir="", status="")


@given(st.text())
def test_garbage_never_raises_and_never_gives_a_pid_that_signals_a_group(text: str):
    told = parse_pid_file(text)
    assert told is None or told.pid > 0


@given(st.integers(min_value=0, max_value=len(WHOLE)))
def test_every_beginning_of_a_file_is_understood_or_refused(length: int):
    told = parse_pid_file(WHOLE[:length])
    assert told is None or "4711".startswith(str(told.pid))


def test_a_living_stranger_is_not_the_postmaster(tmp_path: Path):
    (tmp_path / "postmaster.pid").write_text(f"{os.getpid()}\n{tmp_path}\n")
    assert find_postmaster(tmp_path) is None
    assert not serves(os.getpid(), tmp_path)


def test_a_missing_or_binary_pid_file_is_none(tmp_path: Path):
    assert read_pid_file(tmp_path) is None
    (tmp_path / "postmaster.pid").write_bytes(b"\xff\xfe")
    assert read_pid_file(tmp_path) is None
