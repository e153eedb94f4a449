"""`postern up --detach` and `postern down`: the same `postern up`, in a session of its own."""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, TextIO

from supervisor_plugin.processes import Identity, is_alive, start_ticks
from supervisor_plugin.up.claim import already_up, holder
from supervisor_plugin.up.errors import AlreadyUpError, DetachedError, UpError
from supervisor_plugin.up.interrupts import taken_signals

LOG = "up.log"
POLL_S = 0.1
STOP_LIMIT_S = 180.0
INTERRUPTED = 130


def detach(arguments: Sequence[str], state: Path, environ: Mapping[str, str], stream: TextIO) -> str:
    """Start `postern up` with these arguments behind us and return its greeting.

    Raises DetachedError with its exit code if it gives up. A signal ends it, too: no fleet is left that nobody awaits.
    """
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (pid := holder(state)) is not None:
        raise AlreadyUpError(already_up(state, pid))
    log, ready = state / LOG, state / f"ready-{secrets.token_hex(8)}"
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    command = [sys.executable, "-P", "-m", "registry.cli", "up", *arguments, "--ready-file", str(ready)]
    asked: list[int] = []
    with os.fdopen(descriptor, "wb") as output, log.open("rb") as said, _noted(asked.append):
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, env=dict(environ)
        )
        greeting = _await(child, ready, asked, lambda: _pass_on(said, stream))
    if greeting is None:
        code = INTERRUPTED if asked else max(child.returncode, 0) or UpError.exit_code
        words = (
            f"all that it said: {log}" if log.stat().st_size else f"it could not say why: is the disk of {log} full?"
        )
        raise DetachedError(f"it did not come up (exit code {code}); {words}", code)
    return greeting


def _await(child: "subprocess.Popen[bytes]", ready: Path, asked: list[int], report: Callable[[], None]) -> str | None:
    """Return what it says when it is up, or None once it has ended; each signal that we got meanwhile ends it."""
    passed_on = 0
    while child.poll() is None:
        report()
        if asked[passed_on:]:
            passed_on = len(asked)
            child.send_signal(signal.SIGTERM)
        elif not asked:
            with contextlib.suppress(FileNotFoundError):
                return ready.read_text(encoding="utf-8")
        time.sleep(POLL_S)
    report()
    return None


@contextlib.contextmanager
def _noted(note: Callable[[int], None]) -> Generator[None]:
    """Note the signals that ask us to end, instead of ending."""
    before = {number: signal.signal(number, lambda number, _frame: note(number)) for number in taken_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
            raise UpError(
                f"`postern up`, pid {pid}, is stopping since {STOP_LIMIT_S:g} s (drain_s, stop_grace_s); "
                f"see {state / 'log'}. `postern down` once more cuts the graces short"
            )
        time.sleep(POLL_S)
    return pid


def _pass_on(said: BinaryIO, stream: TextIO) -> None:
    stream.write(said.read().decode(errors="replace"))
