"""One `postern up` per state directory: a lock that ends with its holder, even when that one is killed."""

import contextlib
import fcntl
import os
from collections.abc import Generator
from pathlib import Path

from supervisor_plugin.up.errors import AlreadyUpError

LOCK = "up.lock"


@contextlib.contextmanager
def claim(state: Path) -> Generator[None]:
    """Hold the state directory; raises AlreadyUpError, which names the holder."""
    descriptor = os.open(state / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(descriptor, 32).decode(errors="replace").strip() or "?"
            raise AlreadyUpError(
                f"this fleet is up already: `postern up`, pid {pid}, holds {state}. "
                f"Use it, or stop it first: Ctrl-C in its terminal, or `kill -INT {pid}`"
            ) from None
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
        os.truncate(descriptor, 0)
    finally:
        os.close(descriptor)


def holder(state: Path) -> int | None:
    """Return the pid of the `postern up` that holds this state directory now, or None."""
    try:
        descriptor = os.open(state / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        said = os.read(descriptor, 32).decode(errors="replace").strip()
        return int(said) if said.isdigit() else None
    else:
        return None
    finally:
        os.close(descriptor)
