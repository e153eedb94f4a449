"""A child that cannot be attached, because descriptors ran out, is forgotten by everybody who could signal it."""

import errno
import os
import secrets
import sys

import pytest

from proxy.bridge.child import Command, Spawner
from proxy.bridge.frames import Oversized
from proxy.bridge.lifeline import Lifeline


class Recorder(Lifeline):
    """A lifeline that remembers which groups the warden would end."""

    def __init__(self) -> None:
        super().__init__(secrets.token_hex(16))
        self.watched: list[int] = []
        self.forgotten: list[int] = []

    def watch(self, pgid: int) -> None:
        self.watched.append(pgid)
        super().watch(pgid)

    def forget(self, pgid: int) -> None:
        self.forgotten.append(pgid)
        super().forget(pgid)


class Nobody:
    def on_frame(self, frame: bytes | Oversized) -> None:
        raise AssertionError(frame)

    def on_exit(self, returncode: int) -> None:
        raise AssertionError(returncode)


async def test_a_child_that_cannot_be_attached_is_ended_and_forgotten(monkeypatch: pytest.MonkeyPatch):
    def no_more(_pid: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    lifeline = Recorder()
    command = Command([sys.executable, "-c", "import time; time.sleep(60)"], dict(os.environ), 1000, 1.0)
    monkeypatch.setattr(os, "pidfd_open", no_more)
    with pytest.raises(OSError, match="Too many open files"):
        await Spawner("alpha", command, lifeline).spawn(Nobody())
    monkeypatch.undo()
    assert lifeline.forgotten == lifeline.watched != []
    with pytest.raises(ProcessLookupError):
        os.kill(lifeline.watched[0], 0)
    lifeline.close()
