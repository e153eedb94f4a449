"""One command that measures Postern against what one would use instead, in one run.

    scripts/bench [--quick] [--rounds 5] [--seconds 3] [--seed N] [--json FILE] [--plot FILE.svg] [--publish]

`--publish` writes docs/performance/ and what README.md and docs/performance.md say of it.

Exit codes: 0 measured (whatever the targets say), 1 rows and answers do not agree, 3 something is not installed.
"""

import argparse
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench import report, usage
from tests.bench.counting import count_rows, exact_calls, recorded_of
from tests.bench.figures import medians, verdicts
from tests.bench.machine import command_of, machine_of
from tests.bench.message import ERAS, EraName
from tests.bench.placement import Placement
from tests.bench.plot import draw
from tests.bench.publishing import RESULT, publish
from tests.bench.rounds import Rounds, cells_of
from tests.bench.stage import Stage
from tests.bench.wrk import MissingToolError, require

CALLERS = (1, 16, 64)
EXACT_CALLS = 2000


def main() -> int:
    """Measure, count, judge, write."""
    options = _options()
    try:
        require("wrk", "nginx")
        result = measure(options)
    except MissingToolError as error:
        sys.stderr.write(f"scripts/bench: {error}\n")
        return 3
    judged = verdicts(result["figures"], result["commit_us"])
    print(report.spoken(result, judged))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if options.plot is not None:
        draw(result, options.plot)
    if options.publish:
        publish(RESULT, result)
    return 0 if result["rows"]["holds"] else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="3 rounds of 1 s, the newer era only")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-pin", action="store_true", help="leave it to the kernel which process runs where")
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--plot", type=Path, help="an SVG file; a PNG is made beside it where rsvg-convert is installed"
    )
    parser.add_argument("--publish", action="store_true", help="write the documents' figures")
    options = parser.parse_args()
    if options.quick and options.publish:
        parser.error("--publish takes a whole run, not a quick one")
    if options.quick:
        options.rounds, options.seconds = 3, 1
    return options


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the result of a run, as it is written to a file."""
    placement = Placement.choose(pinned=not options.no_pin)
    eras: Sequence[EraName] = ERAS[:1] if options.quick else ERAS
    with Stage(placement) as stage:
        stage.add_all()
        rounds = Rounds(stage, options.seconds, _tell)
        rounds.run(cells_of(eras, CALLERS, list(stage.targets)), options.rounds, random.Random(options.seed))
        figures = medians(rounds.samples)
        memory = {name: round(_memory_mb(stage, name)) for name in stage.targets}
        return {
            "date": datetime.now(UTC).date().isoformat(),
            "command": command_of("scripts/bench"),
            "rounds": options.rounds,
            "seconds": options.seconds,
            "placement": _describe(placement),
            "machine": machine_of(),
            "figures": figures,
            "memory_mb": memory,
            "postgres_mb": round(usage.memory_bytes(usage.tree([stage.postgres.pid or 0])) / 1e6),
            "commit_us": median(rounds.commits_us),
            "rows": _rows(stage, rounds),
            "foreign": round(median(sample.foreign for taken in rounds.samples.values() for sample in taken), 3),
            "targets": [asdict(each) for each in verdicts(figures, median(rounds.commits_us))],
            "samples": [
                {**asdict(cell), "taken": [asdict(s) for s in taken]} for cell, taken in rounds.samples.items()
            ],
        }


def _rows(stage: Stage, rounds: Rounds) -> dict[str, Any]:
    """Hold the table against the answers: every answer has its row, and no more calls have one than were cut off."""
    auditor = stage.postgres.dsn("postern_auditor")
    counted = count_rows(auditor)
    exact = exact_calls(stage.targets["postern"], EXACT_CALLS)
    exact_rows = recorded_of(auditor, exact.ids)
    holds = rounds.answers <= counted.rows <= rounds.answers + rounds.cut
    holds = holds and counted.intents == counted.rows and exact_rows == exact.answers == EXACT_CALLS
    return {
        **asdict(counted),
        "answers": rounds.answers,
        "cut": rounds.cut,
        "exact_answers": exact.answers,
        "exact_rows": exact_rows,
        "holds": holds,
    }


def _memory_mb(stage: Stage, name: str) -> float:
    return usage.memory_bytes(usage.tree(stage.targets[name].roots)) / 1e6


def _describe(placement: Placement) -> str:
    if not placement.is_pinned:
        return "nothing pinned"
    return "the proxy alone on one core; load, upstream and PostgreSQL on another; the SDK pair unpinned on both"


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
