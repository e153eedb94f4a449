"""What processes have used, as /proc tells: processor time and memory."""

import os
from collections.abc import Iterable
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")


def tree(roots: Iterable[int]) -> list[int]:
    """Return the processes and all their descendants that live now."""
    parents: dict[int, int] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            parents[int(entry.name)] = int(fields[1])
    found = [pid for pid in roots if pid in parents]
    for pid in found:
        found.extend(child for child, parent in parents.items() if parent == pid)
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """Return the processor time of these processes, user and system, without their descendants."""
    return sum(_ticks(pid) for pid in pids) * TICK_S


def resident_bytes(pids: Iterable[int]) -> int:
    """Return the memory in use, without what several of them share (shared buffers count once, with their files)."""
    total = 0
    for pid in pids:
        try:
            _size, resident, shared, *_ = (_PROC / str(pid) / "statm").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += (int(resident) - int(shared)) * _PAGE
    return total


def machine_busy_s() -> float:
    """Return what all processors have worked since boot."""
    fields = [int(field) for field in (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:]]
    idle = fields[3] + fields[4]
    return (sum(fields[:8]) - idle) * TICK_S


def _ticks(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[11]) + int(fields[12]) if fields else 0


def _stat(pid: int) -> list[str] | None:
    """Return the fields after the command's name; None for a process that is gone."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
