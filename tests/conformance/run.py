"""`scripts/conformance`: the official suite, direct and through Postern, compared check by check.

Exit codes: 0 nothing got worse, 1 something did or a run gave no result, 2 wrong usage, 3 the suite cannot be installed.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final, TypeAlias

from tests.conformance import suite
from tests.conformance.parts import PARTS, Part, UpstreamName
from tests.conformance.results import Difference, Results, compare, count, unfinished
from tests.conformance.stage import OUTPUT, Target, database, direct, through_postern

CLIENT: Final = "client"
# Scenario and the wire that it is played on: all that tell something about an intermediary.
CLIENT_SCENARIOS: Final = (
    ("http-standard-headers", "2026-07-28"),
    ("http-custom-headers", "2026-07-28"),
    ("http-invalid-tool-headers", "2026-07-28"),
    ("request-metadata", "2026-07-28"),
    ("json-schema-2020-12-preservation", "2026-07-28"),
    ("json-schema-2020-12-preservation", "2025-11-25"),
    ("sse-retry", "2025-11-25"),
)
SUITE_TIMEOUT_S: Final = 180.0
AT_ONCE: Final = 3

BySuite: TypeAlias = Mapping[str, Results]


def run_all(target: Target, suites: Sequence[str]) -> BySuite:
    """Every suite against one target, one after the other: two at once would hear each other's notifications."""
    return {
        name: suite.run(name, target.url, target.headers, OUTPUT / target.name / name, SUITE_TIMEOUT_S)
        for name in suites
    }


def run_clients(dsn: str) -> tuple[Results, Results]:
    """Every client-mode scenario, direct and through Postern, the two side by side."""
    with ThreadPoolExecutor(2) as threads:
        direct = threads.submit(_run_client, "direct", "tests.conformance.client", dsn)
        behind = threads.submit(_run_client, "postern", "tests.conformance.via_postern", dsn)
        return direct.result(), behind.result()


def _run_client(name: str, module: str, dsn: str) -> Results:
    found: dict[str, Mapping[str, tuple[str, ...]]] = {}
    for scenario, version in CLIENT_SCENARIOS:
        output = OUTPUT / CLIENT / name / f"{scenario}-{version}"
        results = suite.run_client(scenario, version, module, {"CONFORMANCE_DSN": dsn}, output)
        found |= {f"{played} ({version})": checks for played, checks in results.items()}
    return found


class Report:
    """Prints what differs, and remembers whether anything got worse."""

    def __init__(self, *, is_verbose: bool) -> None:
        self.is_fine = True
        self._is_verbose = is_verbose

    def compare(self, name: str, part: Part, direct: Results, other: Results) -> None:
        for side, results in ((f"{part.upstream}-direct", direct), (part.name, other)):
            passed, failed = count(results)
            print(f"{name:12} {side:16} {passed:4} passed {failed:3} failed in {len(results)} scenarios", flush=True)
        if self._is_verbose:
            _print_scenarios(direct, other)
        differences = compare(direct, other)
        for difference in differences:
            _print_difference(difference, part.name)
        complaints = part.complaints(name, differences)
        complaints += part.shortfall(name, direct)
        complaints += [f"{scenario} was played on one side only" for scenario in unfinished(direct, other)]
        if not direct or not other:
            complaints.append(f"no result: see {OUTPUT}/*/{name}/suite.log")
        for complaint in complaints:
            print(f"  WRONG: {part.name}, {name}: {complaint}", flush=True)
        self.is_fine = self.is_fine and not complaints


def _print_scenarios(direct: Results, other: Results) -> None:
    for scenario in sorted({*direct, *other}):
        cells = [count({scenario: side.get(scenario, {})}) for side in (direct, other)]
        print(f"  {scenario:48} " + "   ".join(f"{passed}/{passed + failed}" for passed, failed in cells))


def _print_difference(difference: Difference, name: str) -> None:
    where = f"{difference.scenario}: {difference.check}"
    print(f"  {difference.verdict}: {where}: direct {difference.direct}, {name} {difference.other}")


def compare_parts(parts: Sequence[Part], suites: Sequence[str], root: Path, dsn: str, report: Report) -> None:
    """Run what the parts need, each target on a thread of its own, and compare."""
    with ExitStack() as stack:
        behind = stack.enter_context(through_postern(parts, root, dsn))
        names: dict[UpstreamName, None] = dict.fromkeys(part.upstream for part in parts)
        before = {name: stack.enter_context(direct(name)) for name in names}
        with ThreadPoolExecutor(AT_ONCE) as threads:
            runs: dict[str, Future[BySuite]] = {
                target.name: threads.submit(run_all, target, suites) for target in (*before.values(), *behind.values())
            }
        for part in parts:
            for name in suites:
                of_direct = runs[before[part.upstream].name].result()[name]
                report.compare(name, part, of_direct, runs[part.name].result()[name])


def parse_options(arguments: Sequence[str]) -> argparse.Namespace:
    names = [*(part.name for part in PARTS), CLIENT]
    parser = argparse.ArgumentParser(prog="scripts/conformance")
    parser.add_argument("--suite", choices=sorted(suite.SUITES), action="append", help="default: all")
    parser.add_argument("--part", choices=names, action="append", help="default: all")
    parser.add_argument("--verbose", action="store_true", help="a line per scenario")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    options = parse_options(arguments)
    try:
        suite.install()
    except suite.InstallError as error:
        sys.stderr.write(f"{error}\n")
        return suite.CANNOT_INSTALL
    report = Report(is_verbose=options.verbose)
    chosen: list[str] = options.part or [*(part.name for part in PARTS), CLIENT]
    parts = [part for part in PARTS if part.name in chosen]
    with database() as (root, dsn):
        if parts:
            compare_parts(parts, options.suite or list(suite.SUITES), root, dsn, report)
        if CLIENT in chosen:
            report.compare(CLIENT, Part(CLIENT), *run_clients(dsn))
    print("nothing got worse" if report.is_fine else "something got worse")
    return 0 if report.is_fine else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
