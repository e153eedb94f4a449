"""`postern up --detach` and `postern down`: the same `postern up`, in a session of its own."""

import asyncio
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

from registry.database.locks import opened, takes
from supervisor_plugin.paths import Paths, read_instance
from supervisor_plugin.processes import Identity, is_alive, start_ticks
from supervisor_plugin.up.claim import already_up, claim, holder
from supervisor_plugin.up.errors import AlreadyUpError, DetachedError, UpError
from supervisor_plugin.up.interrupts import taken_signals
from supervisor_plugin.up.leftovers import end_leftovers, running_supervisords

LOG = "up.log"
STARTING = "detach.lock"
POLL_S = 0.1
STOP_LIMIT_S = 180.0
INTERRUPTED = 130


def detach(arguments: Sequence[str], state: Path, environ: Mapping[str, str], stream: TextIO) -> str:
    """Start `postern up` with these arguments behind us and return its greeting.

    Raises DetachedError with its exit code if it gives up. A signal ends it, too: no fleet is left that nobody awaits.
    """
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with opened(state / STARTING) as turn:
        if not takes(turn):
            raise AlreadyUpError(f"another `postern up --detach` is bringing this fleet up, in {state}; wait for it")
        if (pid := holder(state)) is not None:
            raise AlreadyUpError(already_up(state, pid))
        return _start(arguments, state, environ, stream)


def _start(arguments: Sequence[str], state: Path, environ: Mapping[str, str], stream: TextIO) -> str:
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


def down(state: Path) -> str:
    """Stop the fleet of a state directory, wait until nothing of it is left, and say what was there."""
    pid = holder(state)
    if pid is None:
        left = _end_left(state)
        return f"ended, left from an earlier run: {', '.join(left)}" if left else f"nothing is up in {state}"
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
    return f"stopped (pid {pid})"


def _end_left(state: Path) -> list[str]:
    """End what a `postern up` has left that was killed, or whose state directory was removed."""
    paths = Paths(state=state, registry=state)
    if read_instance(paths) is None and not any(running_supervisords(paths)):
        return []
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with claim(state):
        return asyncio.run(end_leftovers(paths, STOP_LIMIT_S, hurry=lambda: False))


def _pass_on(said: BinaryIO, stream: TextIO) -> None:
    stream.write(said.read().decode(errors="replace"))
