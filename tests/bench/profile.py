"""Where a running proxy spends its processor time under load.

    scripts/profile [--callers 64] [--seconds 10] [--top 40] [--stacks FILE]

Samples of its own stack at every tick of its processor time, the kernel's share included; what C functions use counts
for their caller. The file of stacks is what flame graph tools read.
"""

import argparse
import os
import signal
import sys
from collections import Counter
from pathlib import Path

from tests.bench import usage
from tests.bench.message import MODERN
from tests.bench.placement import Placement, on
from tests.bench.stage import Stage
from tests.bench.wrk import MissingToolError, Wrk, require
from tests.sidecar import wait_for

Stacks = dict[tuple[str, ...], int]


def sample(callers: int, seconds: int) -> tuple[Stacks, float]:
    """Return stacks with their counts, outermost function first, and the processor time of a request in microseconds."""
    with Stage(Placement.choose(pinned=True)) as stage:
        out = stage.root / "stacks"
        with on(stage.placement.target):
            command = [sys.executable, "-m", "tests.bench.profiled"]
            stage.add_postern("postern", command, PROFILE_OUT=str(out))
        target, wrk = stage.targets["postern"], Wrk(stage.root)
        with on(stage.placement.rest):
            wrk.run(target.url, target.message(MODERN), callers, 1)
            os.kill(target.roots[0], signal.SIGUSR1)
            used = usage.cpu_s(target.roots)
            load = wrk.run(target.url, target.message(MODERN), callers, seconds)
        used = usage.cpu_s(target.roots) - used
        os.kill(target.roots[0], signal.SIGUSR2)
        wait_for(out.exists, "the stacks are written")
        lines = [line.rsplit(" ", 1) for line in out.read_text(encoding="utf-8").splitlines()]
    return {tuple(stack.split(";")): int(count) for stack, count in lines}, used / load.answers * 1e6


def shares(stacks: Stacks) -> tuple[Counter[str], Counter[str]]:
    """Return how many samples each function has itself, and with all that it calls. Pure."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for stack, count in stacks.items():
        own[stack[-1]] += count
        for name in set(stack):
            whole[name] += count
    return own, whole


def main() -> int:
    """Sample and print."""
    parser = argparse.ArgumentParser(
        prog="scripts/profile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--top", type=int, default=40)
    parser.add_argument("--stacks", type=Path)
    options = parser.parse_args()
    try:
        require("wrk")
    except MissingToolError as error:
        sys.stderr.write(f"scripts/profile: {error}\n")
        return 3
    stacks, request_us = sample(options.callers, options.seconds)
    own, whole = shares(stacks)
    total = own.total()
    print(f"{request_us:.0f} µs of processor time a request, {total} samples")
    for title, counts in (("itself", own), ("with what it calls", whole)):
        print(f"\nµs a request, {title}")
        for name, count in counts.most_common(options.top):
            print(f"{count / total * request_us:8.1f}  {name}")
    if options.stacks is not None:
        lines = [f"{';'.join(stack)} {count}\n" for stack, count in stacks.items()]
        options.stacks.write_text("".join(lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
