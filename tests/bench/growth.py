"""What the cost of a call grows with: tables, each value beside the others in one run, and whether that is allowed.

    scripts/bench-growth [--factor NAME]... [--rounds 5] [--seconds 2] [--million 1000000] [--json FILE] [--publish]

The cost of a call may not depend on servers, agents, sessions or rows, nothing may grow faster than its own factor, and
memory stays flat over a million calls. Exit codes: 0 measured (whatever is found), 3 something is not installed.
"""

import argparse
import json
import random
import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench import usage
from tests.bench.factors import FACTORS, Factor, GrowthStage
from tests.bench.growth_report import MOST_GROWTH, growth_of
from tests.bench.machine import command_of, machine_of
from tests.bench.message import MODERN
from tests.bench.placement import Placement, on
from tests.bench.publishing import GROWTH, publish
from tests.bench.rounds import Cell, Rounds, Sample
from tests.bench.stage import Stage
from tests.bench.wrk import MissingToolError, Wrk, require

CALLERS = 16
NOISE = 1.3
"""Two medians of this many rounds differ by so much on a machine like ours without any cause."""
SLICE_S = 10
WARM_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Line:
    """One value of a factor. Microseconds of processor time a call, of the proxy and of PostgreSQL; medians."""

    value: int
    rps: float
    p50_us: float
    cpu_us: float
    postgres_us: float
    memory_mb: float

    @property
    def cost_us(self) -> float:
        return self.cpu_us + self.postgres_us


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found of a factor: `growth` is the worst step or ratio, in the unit of its limit."""

    factor: str
    rule: str
    growth: float
    limit: float
    is_met: bool
    lines: Sequence[Line]


def judge(name: str, rule: str, lines: Sequence[Line]) -> Judged:
    """Hold the costs against the rule. Pure.

    steady: the dearest value against the first; linear: the worst step, as the share of its own factor's growth.
    """
    first, costs = lines[0], [line.cost_us for line in lines]
    if rule == "linear":
        steps = [(after.cost_us / before.cost_us) / (after.value / before.value) for before, after in pairwise(lines)]
        growth, limit = max(steps), 1.0
    else:
        growth, limit = max(costs) / first.cost_us, NOISE
    return Judged(name, rule, round(growth, 3), limit, rule == "shown" or growth <= limit, lines)


def measure(factor: Factor, rounds: int, seconds: int) -> Judged:
    """Start every value of a factor, visit them in shuffled rounds, judge."""
    pinned = factor.name != "workers"
    with GrowthStage(Placement.choose(pinned=pinned)) as stage:
        for value in factor.values:
            _tell(f"{factor.name}: {value}")
            stage.add(factor, value).open_session()
        visits = Rounds(stage, seconds, _tell)
        cells = [Cell(f"{factor.name} {value}", factor.era, CALLERS) for value in factor.values]
        visits.run(cells, rounds, random.Random(1))
        lines = [
            _line(stage, value, cell, visits.samples[cell]) for value, cell in zip(factor.values, cells, strict=True)
        ]
    return judge(factor.name, factor.rule, lines)


def _line(stage: Stage, value: int, cell: Cell, taken: Sequence[Sample]) -> Line:
    middle = {
        key: round(median(getattr(sample, key) for sample in taken), 1)
        for key in ("rps", "p50_us", "cpu_us", "postgres_us")
    }
    memory = usage.memory_bytes(usage.tree(stage.targets[cell.name].roots)) / 1e6
    return Line(value, **middle, memory_mb=round(memory, 1))


def million(calls: int) -> dict[str, Any]:
    """Make so many calls with one proxy; return its memory along the way."""
    with Stage(Placement.choose(pinned=True)) as stage:
        with on(stage.placement.target):
            stage.add_postern("postern")
        target, wrk, done, taken = stage.targets["postern"], Wrk(stage.root), 0, list[tuple[int, float]]()
        while done < calls:
            with on(stage.placement.rest):
                done += wrk.run(target.url, target.message(MODERN), 64, SLICE_S).answers
            taken.append((done, round(usage.memory_bytes(usage.tree(target.roots)) / 1e6, 1)))
            _tell(f"{done:,} calls: {taken[-1][1]} MB")
    warm = next(memory for count, memory in taken if count >= done * WARM_SHARE)
    growth = taken[-1][1] / warm
    return {"calls": done, "memory_mb": taken, "growth": round(growth, 3), "is_met": growth <= MOST_GROWTH}


def main() -> int:
    """Measure, judge, write."""
    names = [factor.name for factor in FACTORS]
    parser = argparse.ArgumentParser(
        prog="scripts/bench-growth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--factor", action="append", choices=names, help="only this one; may be repeated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--million", type=int, default=1_000_000, metavar="CALLS", help="0 leaves this part out")
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--publish", action="store_true", help="write docs/performance/growth.json and what stands on it"
    )
    options = parser.parse_args()
    try:
        require("wrk")
    except MissingToolError as error:
        sys.stderr.write(f"scripts/bench-growth: {error}\n")
        return 3
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    chosen = [factor for factor in FACTORS if not options.factor or factor.name in options.factor]
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": command_of("scripts/bench-growth"),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "machine": machine_of(),
        "factors": [asdict(measure(factor, options.rounds, options.seconds)) for factor in chosen],
        "million": million(options.million) if options.million else None,
    }
    print(growth_of(result))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if options.publish:
        publish(GROWTH, result)
    return 0


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
