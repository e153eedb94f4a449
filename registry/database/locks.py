"""File locks that end with the last process that holds them, however it ends."""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def opened(path: Path) -> Generator[int]:
    """Give a descriptor to lock `path` by; a child that inherited it goes on holding the lock."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def takes(descriptor: int) -> bool:
    """Take the lock if nobody holds it, and say whether it is ours."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
