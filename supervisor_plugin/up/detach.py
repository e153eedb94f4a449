"""`postern up --detach` and `postern down`: the same `postern up`, in a session of its own."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, TextIO

from supervisor_plugin.processes import Identity, is_alive, start_ticks
from supervisor_plugin.up.claim import already_up, holder
from supervisor_plugin.up.errors import AlreadyUpError, UpError
from supervisor_plugin.up.run import ready_file

LOG = "up.log"
POLL_S = 0.1
STOP_LIMIT_S = 180.0


def detach(arguments: Sequence[str], state: Path, stream: TextIO) -> str:
    """Start `postern up` with these arguments behind us and return its greeting; raises UpError if it gives up."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (pid := holder(state)) is not None:
        raise AlreadyUpError(already_up(state, pid))
    log = state / LOG
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    command = [sys.executable, "-P", "-m", "registry.cli", "up", *arguments]
    with os.fdopen(descriptor, "wb") as output, log.open("rb") as said:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        try:
            while not ready_file(state, child.pid).exists():
                _pass_on(said, stream)
                if child.poll() is not None:
                    _pass_on(said, stream)
                    raise UpError(f"it did not come up (exit code {child.returncode}); all that it said: {log}")
                time.sleep(POLL_S)
        except KeyboardInterrupt:
            child.send_signal(signal.SIGINT)
            child.wait()
            raise
    return ready_file(state, child.pid).read_text(encoding="utf-8")


def down(state: Path) -> int | None:
    """Stop the fleet of a state directory and wait for its end; return the pid it had, None if none was up."""
    pid = holder(state)
    if pid is None:
        return None
    process = Identity(pid, start_ticks(pid))
    with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_LIMIT_S
    while is_alive(process):
        if time.monotonic() > deadline:
            raise UpError(f"`postern up`, pid {pid}, does not end; see {state / 'log'}, or end it with kill -9 {pid}")
        time.sleep(POLL_S)
    return pid


def _pass_on(said: BinaryIO, stream: TextIO) -> None:
    stream.write(said.read().decode(errors="replace"))
