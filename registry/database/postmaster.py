"""The postmaster of a data directory: found, proven to be ours, never guessed."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

PID_FILE: Final = "postmaster.pid"
READY: Final = "ready"


@dataclass(frozen=True, slots=True)
class PidFile:
    """The lines of postmaster.pid that matter; `status` is "starting", "ready", "standby", "stopping" or ""."""

    pid: int
    socket_dir: str
    status: str


def parse_pid_file(text: str) -> PidFile | None:
    """Return what postmaster.pid says, or None while it is being written or is damaged."""
    lines = text.splitlines()
    try:
        pid = int(lines[0])
    except (IndexError, ValueError):
        return None
    if pid <= 0:
        return None
    return PidFile(
        pid=pid,
        socket_dir=lines[4].strip() if len(lines) > 4 else "",
        status=lines[7].strip() if len(lines) > 7 else "",
    )


def read_pid_file(data: Path) -> PidFile | None:
    try:
        return parse_pid_file((data / PID_FILE).read_text())
    except (OSError, UnicodeDecodeError):
        return None


def find_postmaster(data: Path) -> PidFile | None:
    """Return the live postmaster of `data`, or None; a recycled pid does not pass."""
    told = read_pid_file(data)
    return told if told is not None and serves(told.pid, data) else None


def serves(pid: int, data: Path) -> bool:
    """Say whether `pid` is a live process of PostgreSQL working in `data`, by program, owner and directory."""
    try:
        process = psutil.Process(pid)
        return (
            process.status() != psutil.STATUS_ZOMBIE
            and process.uids().effective == data.stat().st_uid
            and os.path.basename(process.exe()) == "postgres"  # noqa: PTH119  may end in " (deleted)"
            and process.cwd() == os.fspath(data)
        )
    except (psutil.Error, OSError):
        return False


def processes_of(data: Path) -> list[int]:
    """Return every live process of PostgreSQL working in `data`, for backends that outlived their postmaster."""
    return [pid for pid in psutil.pids() if serves(pid, data)]
