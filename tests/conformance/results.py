"""What a run of the suite said, and how two runs differ. Pure but for `read_results`."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

# scenario → the statuses of its checks, by check id and name, in the order of the suite
Results: TypeAlias = Mapping[str, Mapping[str, tuple[str, ...]]]
Verdict: TypeAlias = Literal["better", "worse", "gone"]

_UNTOLD: Final = frozenset({"SKIPPED", "MISSING"})
_RANK: Final = {"FAILURE": 0, "WARNING": 1, "SKIPPED": 2, "MISSING": 2, "SUCCESS": 3}


@dataclass(frozen=True, slots=True)
class Difference:
    """One check that did not end the same way."""

    scenario: str
    check: str
    direct: str
    other: str

    @property
    def verdict(self) -> Verdict:
        """A check that was not made any more is not better than one that failed."""
        if self.other in _UNTOLD and self.direct != "SUCCESS":
            return "gone"
        return "better" if _RANK[self.other] > _RANK[self.direct] else "worse"


def read_results(directory: Path) -> Results:
    """The checks under an output directory of the suite; those that only inform are left out."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for file in sorted(directory.glob("*/checks.json")):
        checks: defaultdict[str, list[str]] = defaultdict(list)
        for check in json.loads(file.read_text()):
            if check["status"] in _RANK:
                checks[f"{check['id']} {check['name']}"].append(check["status"])
        found[_scenario_of(file.parent.name)] = {name: tuple(statuses) for name, statuses in checks.items()}
    return found


def _scenario_of(directory: str) -> str:
    """`server-tools-list-2026-11-23T04-20-44-723Z` is `tools-list`."""
    return directory.removeprefix("server-").rsplit("-", 6)[0]


def count(results: Results) -> tuple[int, int]:
    """How many checks passed and failed."""
    statuses = [status for checks in results.values() for each in checks.values() for status in each]
    return statuses.count("SUCCESS"), statuses.count("FAILURE")


def compare(direct: Results, other: Results) -> list[Difference]:
    """Every check that ended differently; one that is absent on one side counts as MISSING there."""
    return [
        Difference(scenario, check, before, after)
        for scenario in sorted({*direct, *other})
        for check, before, after in _pairs(direct.get(scenario, {}), other.get(scenario, {}))
        if before != after
    ]


def _pairs(
    direct: Mapping[str, tuple[str, ...]], other: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[str, str, str]]:
    for check in sorted({*direct, *other}):
        before, after = direct.get(check, ()), other.get(check, ())
        for position in range(max(len(before), len(after))):
            yield check, _at(before, position), _at(after, position)


def _at(statuses: tuple[str, ...], position: int) -> str:
    return statuses[position] if position < len(statuses) else "MISSING"


def unfinished(direct: Results, other: Results) -> list[str]:
    """The scenarios that said something on one side only: a run that broke off would else pass for one that is equal."""
    before, after = ({name for name, checks in side.items() if checks} for side in (direct, other))
    return sorted(before ^ after)
