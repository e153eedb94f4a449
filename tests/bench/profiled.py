"""`postern proxy` that watches itself: every millisecond of its own processor time, where it is.

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

    def start(self) -> None:
        """Sample from now on; SIGUSR1 forgets what was seen so far, so that starting up is not in it."""
        signal.signal(signal.SIGPROF, self.sample)
        signal.signal(signal.SIGUSR1, lambda *_: self.stacks.clear())
        signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)

    def write(self, file: Path) -> None:
        """Write the stacks, outermost frame first."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        lines = [f"{';'.join(_named(code) for code in reversed(codes))} {n}\n" for codes, n in self.stacks.items()]
        file.write_text("".join(lines), encoding="utf-8")


def _named(code: CodeType) -> str:
    """Return `package/file.py:function`, short enough to read."""
    parts = Path(code.co_filename).parts[-2:]
    return f"{'/'.join(parts)}:{code.co_qualname}".replace(" ", "_").replace(";", "_")


if __name__ == "__main__":
    sampler = Sampler()
    sampler.start()
    try:
        run(None, Runtime)
    finally:
        sampler.write(Path(os.environ["PROFILE_OUT"]))
