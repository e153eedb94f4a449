"""What processes have used, as /proc tells: processor time and memory."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")
_GONE = (FileNotFoundError, ProcessLookupError)


def tree(roots: Iterable[int]) -> list[int]:
    """Return the processes and all their descendants that live now, each once."""
    parents: dict[int, int] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            parents[int(entry.name)] = int(fields[1])
    found = list(dict.fromkeys(pid for pid in roots if pid in parents))
    known = set(found)
    for pid in found:
        children = [child for child, parent in parents.items() if parent == pid and child not in known]
        known.update(children)
        found.extend(children)
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """Return the processor time of these processes, user and system, without their descendants."""
    return sum(_ticks(pid) for pid in pids) * TICK_S


def memory_bytes(pids: Iterable[int]) -> int:
    """Return the memory in use; what several processes share counts in parts (PSS), so that a sum is true."""
    total = 0
    for pid in pids:
        with contextlib.suppress(*_GONE):
            lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
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
    except _GONE:
        return None
