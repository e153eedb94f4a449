"""`postern proxy` that watches itself: at every tick of its own processor time, where it is.

Environment: PROFILE_OUT, the file that gets a line `frame;frame;frame count` for each stack that was seen.
"""

import os
import signal
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType

from proxy.runtime import Runtime
from proxy.server import run

EVERY_S = 0.001
MOST_FRAMES = 60


class Sampler:
    """Counts stacks at each SIGPROF, which comes with the processor time that is used, the kernel's included."""

    def __init__(self) -> None:
        self.stacks: Counter[tuple[CodeType, ...]] = Counter()

    def sample(self, _number: int, frame: FrameType | None) -> None:
        """Count the stack that was interrupted."""
        codes: list[CodeType] = []
        while frame is not None and len(codes) < MOST_FRAMES:
            codes.append(frame.f_code)
            frame = frame.f_back
        self.stacks[tuple(codes)] += 1

    def listen(self, file: Path) -> None:
        """Sample from SIGUSR1 on, so that starting up is not in it; write the stacks to `file` at SIGUSR2."""
        signal.signal(signal.SIGPROF, self.sample)
        signal.signal(signal.SIGUSR1, lambda *_: signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S))
        signal.signal(signal.SIGUSR2, lambda *_: self._write(file))

    def _write(self, file: Path) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        lines = [f"{';'.join(_named(code) for code in reversed(codes))} {n}\n" for codes, n in self.stacks.items()]
        partial = file.with_suffix(".partial")
        partial.write_text("".join(lines), encoding="utf-8")
        partial.replace(file)


def _named(code: CodeType) -> str:
    """Return `package/file.py:function`, short enough to read."""
    parts = Path(code.co_filename).parts[-2:]
    return f"{'/'.join(parts)}:{code.co_qualname}".replace(" ", "_").replace(";", "_")


if __name__ == "__main__":
    Sampler().listen(Path(os.environ["PROFILE_OUT"]))
    run(None, Runtime)
