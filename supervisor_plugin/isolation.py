"""What a process gives up before it becomes a server: limits, user, surviving its parent, ignored signals."""

import ctypes
import os
import pwd
import resource
import signal
from dataclasses import dataclass

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Limits:
    """Declared limits of one process; None leaves what is inherited."""

    memory_bytes: int | None = None
    open_files: int | None = None


@dataclass(frozen=True, slots=True)
class User:
    """Whom a server runs as."""

    name: str
    uid: int
    gid: int
    home: str


class IsolationError(Exception):
    """The system does not allow what the registry declares; the message says what to change."""


def find_user(name: str | None) -> User | None:
    """Look a declared user up; only root may become another one."""
    if name is None:
        return None
    try:
        entry = pwd.getpwnam(name)
    except KeyError as error:
        raise IsolationError(f"lifecycle.user: this system has no user {name}") from error
    if os.geteuid() not in (0, entry.pw_uid):
        raise IsolationError(f"lifecycle.user: only root can start a server as {name}; start the fleet as root")
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir)


def current_user() -> User:
    """Return the user that we are; also where the system's user database does not know the uid."""
    uid, gid = os.getuid(), os.getgid()
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return User(str(uid), uid, gid, "/")
    return User(entry.pw_name, uid, gid, entry.pw_dir)


def apply_limits(limits: Limits) -> None:
    """Lower the limits of this process and of all that it starts; no core file, because it would hold secrets."""
    wanted = {
        resource.RLIMIT_AS: limits.memory_bytes,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in wanted.items():
        if value is not None:
            _lower(kind, value)


def _lower(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    capped = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (capped, capped))


def become(user: User) -> None:
    """Change to this user for good, with its groups."""
    if user.uid == os.geteuid() and user.gid == os.getegid():
        return
    os.initgroups(user.name, user.gid)
    os.setgid(user.gid)
    os.setuid(user.uid)


def die_with(parent: int) -> None:
    """Be sent SIGTERM when the parent dies, even of SIGKILL. Survives exec, not fork; a change of user clears it."""
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return  # not Linux: the listener's clean-up and the next boot remain
    prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def restore_signals() -> None:
    """Undo what Python ignores: a server must die of a closed pipe as any program does."""
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
