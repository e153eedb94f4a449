"""The bridge's last will: a process of its own that outlives the bridge and ends what the bridge left behind.

The kernel ends the direct children of a bridge that dies (`PR_SET_PDEATHSIG`), but not theirs: `npx` and `uvx` start
the real server as a grandchild. The warden reads `+pgid` and `-pgid` lines from the bridge; when the pipe ends, by
whatever death, it kills those process groups and every process that carries the bridge's marker in its environment.

Run as a script by path in isolated mode, so: standard library only, nothing of ours.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

MARKER_NAME: Final = "MCP_BRIDGE_CHILD"
SWEEPS: Final = 40
PAUSE_S: Final = 0.05


def carries(pid: int, marker: str) -> bool:
    """Whether a process has `MCP_BRIDGE_CHILD=` with exactly this marker, or one below it (`marker.7`)."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    exact = f"{MARKER_NAME}={marker}".encode()
    return any(variable == exact or variable.startswith(exact + b".") for variable in variables)


def kill_marked(marker: str) -> int:
    """SIGKILL to every process that carries the marker; how many there were."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return sum(_kill_if_marked(pid, marker) for pid in pids if pid != os.getpid() and carries(pid, marker))


def _kill_if_marked(pid: int, marker: str) -> bool:
    """Check again behind a pidfd, so that a recycled pid is not hit."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not carries(pid, marker):
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def kill_group(pgid: int) -> None:
    """SIGKILL to a process group, if there is one."""
    try:
        os.killpg(pgid, signal.SIGKILL)
    except OSError:
        return


def main(marker: str) -> None:
    """Wait for the end of the bridge, then leave nothing of it."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        pgid = int(line[1:])
        if line[0] == "+":
            groups.add(pgid)
        else:
            groups.discard(pgid)
    for pgid in groups:
        kill_group(pgid)
    for _ in range(SWEEPS):
        if not kill_marked(marker):
            return
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    main(sys.argv[1])
