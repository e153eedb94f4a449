"""One `postern up` per state directory: a lock that ends with its holder, even when that one is killed."""

import contextlib
import os
from collections.abc import Generator
from pathlib import Path

from registry.database.locks import opened, takes
from supervisor_plugin.up.errors import AlreadyUpError

LOCK = "up.lock"


@contextlib.contextmanager
def claim(state: Path) -> Generator[None]:
    """Hold the state directory; raises AlreadyUpError, which names the holder."""
    with opened(state / LOCK) as descriptor:
        if not takes(descriptor):
            raise AlreadyUpError(already_up(state, _read_pid(descriptor)))
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
        os.truncate(descriptor, 0)


def already_up(state: Path, pid: int | None) -> str:
    """Say who holds a state directory, and how to end it."""
    return (
        f"this fleet is up already: `postern up`, pid {pid or 'unknown'}, holds {state}. "
        "Use it, or stop it first: Ctrl-C in its terminal, or `postern down`"
    )


def holder(state: Path) -> int | None:
    """Return the pid of the `postern up` that holds this state directory now, or None."""
    if not (state / LOCK).exists():
        return None
    with opened(state / LOCK) as descriptor:
        return None if takes(descriptor) else _read_pid(descriptor)


def _read_pid(descriptor: int) -> int | None:
    said = os.read(descriptor, 32).decode(errors="replace").strip()
    return int(said) if said.isdigit() else None
