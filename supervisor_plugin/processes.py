"""What runs on this machine, read from `/proc`: identities that no recycled pid shares, and the marks of our processes.

Standard library only: supervisord loads it, too.
"""

import contextlib
import hashlib
import os
import select
import shutil
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
FLEET_MARK, SERVER_MARK, RUN_MARK = "POSTERN_FLEET", "POSTERN_SERVER", "POSTERN_RUN"


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """A process for sure: its pid and its start in clock ticks since boot. Unique within one boot."""

    pid: int
    ticks: int

    @property
    def started_s(self) -> float:
        """When it started, on the clock `time.CLOCK_BOOTTIME`."""
        return self.ticks / os.sysconf("SC_CLK_TCK")

    def __str__(self) -> str:
        return f"{self.pid}-{self.ticks}"


@dataclass(frozen=True, slots=True)
class Marked:
    """A process of a fleet: which server it belongs to, and the process that was launched as this server, if known."""

    identity: Identity
    server: str
    run: str
    parent: int


def boot_id() -> str:
    """Identify this boot of the machine; pids and ticks of another one mean nothing."""
    return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def start_ticks(pid: int) -> int:
    """Start time of a process in clock ticks since boot, 0 if it is gone."""
    fields = _stat(pid)
    return int(fields[19]) if fields else 0


def _stat(pid: int) -> list[bytes]:
    # The second field is the name in parentheses, which may itself hold spaces and parentheses.
    try:
        return (PROC / str(pid) / "stat").read_bytes().rsplit(b")", 1)[1].split()
    except (OSError, IndexError):
        return []


def is_alive(identity: Identity) -> bool:
    """Whether exactly this process still runs; a zombie does not."""
    fields = _stat(identity.pid)
    return bool(fields) and int(fields[19]) == identity.ticks and fields[0] not in (b"Z", b"X")


def environment_of(pid: int) -> dict[str, str]:
    """Return the environment with which a process was executed; empty if it is gone or not ours to read."""
    try:
        raw = (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return {}
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0") if entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def pids() -> Iterator[int]:
    return (int(entry) for entry in os.listdir(PROC) if entry.isdigit())  # noqa: PTH208 - names only, thousands of them


def marked_processes(instance: str) -> list[Marked]:
    """Find every process that carries this fleet's mark, whoever its parent is now."""
    mark = f"{FLEET_MARK}={instance}\0".encode()
    found: list[Marked] = []
    for pid in pids():
        try:
            raw = (PROC / str(pid) / "environ").read_bytes()
        except OSError:
            continue
        if mark in raw + b"\0" and (process := _marked(pid, environment_of(pid), instance)) is not None:
            found.append(process)
    return found


def _marked(pid: int, environment: Mapping[str, str], instance: str) -> Marked | None:
    fields = _stat(pid)
    if environment.get(FLEET_MARK) != instance or SERVER_MARK not in environment or not fields or fields[0] == b"Z":
        return None
    identity = Identity(pid, int(fields[19]))
    return Marked(identity, environment[SERVER_MARK], environment.get(RUN_MARK, ""), int(fields[1]))


def strays(marked: Iterable[Marked], supervised: Mapping[str, Identity]) -> list[Marked]:
    """Return those that belong to no launch that supervisord knows now: left over from an earlier one."""
    processes = list(marked)
    parents = {process.identity.pid: process.parent for process in processes}
    return [process for process in processes if not _belongs(process, supervised.get(process.server), parents)]


def _belongs(process: Marked, owner: Identity | None, parents: Mapping[int, int]) -> bool:
    if owner is None:
        return False
    if process.run:
        return process.run == str(owner)
    pid: int | None = process.identity.pid  # the launcher before it became the server, and what it may have started
    seen: set[int] = set()
    while pid is not None and pid not in seen:
        if pid == owner.pid:
            return True
        seen.add(pid)
        pid = parents.get(pid)
    return False


def tree(root: int) -> set[int]:
    """Return a process and all that descend from it now."""
    children: dict[int, list[int]] = {}
    for pid in pids():
        if fields := _stat(pid):
            children.setdefault(int(fields[1]), []).append(pid)
    found, waiting = set[int](), [root]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, [])
    return found


def signal_ours(identity: Identity, instance: str, number: signal.Signals) -> bool:
    """Signal a process only if it is provably ours: same start time, our mark, and no way for its pid to change hands.

    The descriptor pins the process first; what is checked afterwards is what the signal reaches.
    """
    try:
        descriptor = os.pidfd_open(identity.pid)
    except OSError:
        return False
    try:
        if start_ticks(identity.pid) != identity.ticks or environment_of(identity.pid).get(FLEET_MARK) != instance:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def wait_until_gone(identities: Iterable[Identity], timeout_s: float) -> list[Identity]:
    """Wait, blocking, until all have ended; return those that have not."""
    limit = time.monotonic() + timeout_s
    poller = select.poll()
    with contextlib.ExitStack() as descriptors:
        left = [identity for identity in identities if is_alive(identity)]
        for identity in left:
            with contextlib.suppress(OSError):
                descriptor = os.pidfd_open(identity.pid)
                descriptors.callback(os.close, descriptor)
                poller.register(descriptor, select.POLLIN)
        while left and (remaining := limit - time.monotonic()) > 0:
            for descriptor, _ in poller.poll(remaining * 1000):
                poller.unregister(descriptor)
            left = [identity for identity in left if is_alive(identity)]
    return left


def binary_identity(argv: tuple[str, ...], cwd: str | None, search_path: str) -> str:
    """Digest a declared command and the files that it names, so that a replaced program is noticed.

    Raises FileNotFoundError or PermissionError with the reason if the program cannot be executed.
    """
    program = find_program(argv[0], cwd, search_path)
    files = [program, *(path for word in argv[1:] if (path := _file(word, cwd)) is not None)]
    digest = hashlib.sha256("\0".join(argv).encode())
    for path in files:
        status = path.stat()
        digest.update(f"{path}\0{status.st_dev}\0{status.st_ino}\0{status.st_size}\0{status.st_mtime_ns}".encode())
    return digest.hexdigest()[:32]


def find_program(word: str, cwd: str | None, search_path: str) -> Path:
    """Find what `exec` would run, as the server's own directory and PATH would have it."""
    if "/" in word:
        path = Path(cwd or ".", word)
        if not path.exists():
            raise FileNotFoundError(f"{word} does not exist")
        if not path.is_file() or not os.access(path, os.X_OK):
            raise PermissionError(f"{word} is not executable")
        return path
    found = shutil.which(word, path=search_path)
    if found is None:
        raise FileNotFoundError(f"{word} is not in PATH ({search_path})")
    return Path(found)


def _file(word: str, cwd: str | None) -> Path | None:
    if not word or "\0" in word or len(word) > 1024:
        return None
    path = Path(cwd or ".", word)
    with contextlib.suppress(OSError):
        if path.is_file():
            return path
    return None
