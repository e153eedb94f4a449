"""One stdio server process: how it is started, spoken to and ended."""

import asyncio
import ctypes
import itertools
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, cast

from proxy.bridge.frames import FrameSplitter, Oversized
from proxy.bridge.lifeline import Lifeline
from proxy.bridge.log import write_line
from proxy.bridge.warden import MARKER_NAME, kill_group, kill_marked

_PR_SET_PDEATHSIG: Final = 1
_STDIN_GRACE_S: Final = 0.5
_DRAIN_S: Final = 1.0
_LOG_LINE_BYTES: Final = 16 * 1024


class Listener(Protocol):
    """What a child tells its owner."""

    def on_frame(self, frame: bytes | Oversized) -> None: ...

    def on_exit(self, returncode: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Command:
    """What to run: argument list, whole environment, largest frame read from it, time between SIGTERM and SIGKILL."""

    argv: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    frame_cap_bytes: int
    grace_s: float


class Spawner:
    """Starts children of one bridge; each is numbered, marked and known to the warden."""

    def __init__(self, name: str, command: Command, lifeline: Lifeline) -> None:
        self._name = name
        self._command = command
        self._lifeline = lifeline
        self._numbers = itertools.count(1)

    async def spawn(self, listener: Listener) -> "Child":
        """Start a child; OSError when the command cannot be executed."""
        number = next(self._numbers)
        marker = f"{self._lifeline.marker}.{number}"
        process = _execute(self._command, marker)
        self._lifeline.watch(process.pid)

        def sweep() -> None:
            kill_marked(marker)
            self._lifeline.forget(process.pid)

        child = Child(process, listener, sweep, label=f"{self._name}/{number}", command=self._command)
        try:
            await child.connect()
        except OSError:
            child.abandon()
            raise
        return child


def _execute(command: Command, marker: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command.argv,
        env={**command.environment, MARKER_NAME: marker},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        bufsize=0,
        preexec_fn=_die_with_parent(),  # noqa: PLW1509 - the bridge has one thread, and prctl is all that runs
    )


def _die_with_parent() -> Callable[[], None]:
    """For use between fork and exec: the kernel ends the child when the bridge dies, even of SIGKILL."""
    prctl = cast("Callable[[int, int], int]", ctypes.CDLL(None).prctl)
    parent = os.getpid()

    def arm() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(127)

    return arm


class _Reader(asyncio.Protocol):
    """Feeds what a pipe says to a function, and says when the pipe ends."""

    def __init__(self, on_data: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        self._on_data = on_data
        self._on_end = on_end

    def data_received(self, data: bytes) -> None:
        self._on_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._on_end()


class Child:
    """A process in a session of its own. It is over when the process has exited and its output has been read.

    `on_reaped` sweeps what escaped from its process group.
    """

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        listener: Listener,
        on_reaped: Callable[[], None],
        *,
        label: str,
        command: Command,
    ) -> None:
        self.label = label
        self.pid = process.pid
        self.is_over = False
        self._process = process
        self._command = command
        self._listener = listener
        self._on_reaped = on_reaped
        self._over = asyncio.Event()
        self._output_ended = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None
        self._frames = FrameSplitter(command.frame_cap_bytes)
        self._log = FrameSplitter(_LOG_LINE_BYTES)
        self._finishing: asyncio.Task[None] | None = None
        self._pidfd: int | None = None

    def abandon(self) -> None:
        """End a child that could not be attached, and let nobody signal its number later: it may be another's then."""
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
        kill_group(self.pid)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        self._on_reaped()

    async def connect(self) -> None:
        """Attach the pipes to the running loop."""
        loop = asyncio.get_running_loop()
        self._pidfd = os.pidfd_open(self.pid)
        loop.add_reader(self._pidfd, self._on_process_exit)
        self._stdin, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, self._process.stdin)
        await loop.connect_read_pipe(lambda: _Reader(self._on_output, self._on_output_end), self._process.stdout)
        await loop.connect_read_pipe(lambda: _Reader(self._on_log, lambda: None), self._process.stderr)

    @property
    def backlog_bytes(self) -> int:
        """What was written to the child and not read by it yet."""
        return self._stdin.get_write_buffer_size()

    def write(self, frame: bytes) -> None:
        """One frame to its stdin; nothing happens when the child is gone."""
        if not self._stdin.is_closing():
            self._stdin.write(frame + b"\n")

    async def stop(self) -> None:
        """End it and everything it started; returns when nothing is left. May be called by several at once."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop())
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        """Close stdin (the specification's way to say goodbye), SIGTERM, SIGKILL: each a little later."""
        self._stdin.close()
        if await self._ends_within(_STDIN_GRACE_S):
            return
        self._signal_group(signal.SIGTERM)
        if await self._ends_within(self._command.grace_s):
            return
        self._signal_group(signal.SIGKILL)
        await self._over.wait()

    async def _ends_within(self, limit_s: float) -> bool:
        try:
            async with asyncio.timeout(limit_s):
                await self._over.wait()
        except TimeoutError:
            return False
        return True

    def _signal_group(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            try:
                os.killpg(self.pid, number)
            except OSError:
                return

    def _on_process_exit(self) -> None:
        """End the group, then reap: the process is a zombie now, so its group id cannot be anybody else's."""
        assert self._pidfd is not None  # noqa: S101 - it is what woke us
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        kill_group(self.pid)
        self._process.wait()
        self._on_reaped()
        self._finishing = asyncio.create_task(self._finish())

    async def _finish(self) -> None:
        try:
            async with asyncio.timeout(_DRAIN_S):
                await self._output_ended.wait()
        except TimeoutError:
            write_line(self.label, "bridge: it left its output open")
        self._stdin.close()
        self.is_over = True
        self._over.set()
        self._listener.on_exit(self._process.returncode)

    def _on_output(self, data: bytes) -> None:
        for frame in self._frames.feed(data):
            self._listener.on_frame(frame)

    def _on_output_end(self) -> None:
        """End a server that closed its output: it cannot answer any more, whether it exits or not."""
        self._output_ended.set()
        if self._process.returncode is None and self._stopping is None:
            self._stopping = asyncio.create_task(self._stop())

    def _on_log(self, data: bytes) -> None:
        for line in self._log.feed(data):
            said = f"(a line of {line.size_bytes} bytes)" if isinstance(line, Oversized) else line.rstrip(b"\r")
            write_line(self.label, said)
