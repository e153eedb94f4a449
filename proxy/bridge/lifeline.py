"""The bridge's end of the pipe to its warden."""

import subprocess
import sys
from pathlib import Path
from typing import Final

_SCRIPT: Final = Path(__file__).with_name("warden.py")


class Lifeline:
    """Tells the warden which process groups to end if this process dies. A warden that died is replaced."""

    def __init__(self, marker: str) -> None:
        self.marker = marker
        self._groups: set[int] = set()
        self._warden = self._start()

    def watch(self, pgid: int) -> None:
        self._groups.add(pgid)
        self._tell(f"+{pgid}\n")

    def forget(self, pgid: int) -> None:
        self._groups.discard(pgid)
        self._tell(f"-{pgid}\n")

    def close(self, timeout_s: float = 5.0) -> None:
        """End the warden, which sweeps once more; returns when it is gone."""
        if self._warden.stdin is not None:
            self._warden.stdin.close()
        try:
            self._warden.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._warden.kill()
            self._warden.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(_SCRIPT), self.marker],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            # Neither a signal to the bridge's group nor a search for the fleet's mark in the environment must reach it.
            start_new_session=True,
            env={},
            bufsize=0,
        )

    def _tell(self, line: str) -> None:
        try:
            self._write(line)
        except BrokenPipeError:
            self._warden.wait()
            self._warden = self._start()
            for pgid in self._groups:
                self._write(f"+{pgid}\n")

    def _write(self, line: str) -> None:
        assert self._warden.stdin is not None  # noqa: S101 - opened as a pipe in _start
        self._warden.stdin.write(line.encode("ascii"))
