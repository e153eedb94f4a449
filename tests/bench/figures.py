"""Medians, ratios, and the targets of the project against them. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

from tests.bench.message import ERAS, EraName
from tests.bench.rounds import Cell, Sample

Figures = dict[str, dict[str, dict[str, dict[str, float]]]]
"""era ▸ target ▸ callers ▸ figure."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target, what was measured, and whether that is enough."""

    figure: str
    era: str
    limit: str
    measured: float
    is_met: bool


@dataclass(frozen=True, slots=True)
class Aim:
    """One line of the targets table."""

    figure: str
    relation: Literal[">=", "<="]
    limit: float
    measure: Callable[["View"], float]


class View:
    """The figures of one era."""

    def __init__(self, era: Mapping[str, Mapping[str, Mapping[str, float]]], commit_us: float) -> None:
        self._era = era
        self.commit_us = commit_us

    def of(self, target: str, figure: str, callers: int = 64) -> float:
        return self._era[target][str(callers)][figure]

    def ratio(self, target: str, other: str, figure: str = "rps", callers: int = 64) -> float:
        return self.of(target, figure, callers) / self.of(other, figure, callers)

    def added_us(self) -> float:
        """What Postern adds to the median latency of a single caller."""
        return self.of("postern", "p50_us", 1) - self.of("direct", "p50_us", 1)


AIMS: Sequence[Aim] = (
    Aim("requests/s, against nginx plain", ">=", 0.25, lambda v: v.ratio("postern", "nginx")),
    Aim("requests/s, against nginx + njs", ">=", 0.60, lambda v: v.ratio("postern", "njs")),
    Aim("requests/s, against Starlette + httpx2", ">=", 10.0, lambda v: v.ratio("postern", "forwarder")),
    Aim(
        "CPU of the proxy per request, against nginx plain", "<=", 4.5, lambda v: v.ratio("postern", "nginx", "cpu_us")
    ),
    Aim("p50 added for one caller, against two bare commits", "<=", 1.5, lambda v: v.added_us() / (2 * v.commit_us)),
    Aim("p99 / p50", "<=", 3.0, lambda v: v.of("postern", "p99_us") / v.of("postern", "p50_us")),
    Aim("requests/s without the audit, against with it", "<=", 1.6, lambda v: v.ratio("unaudited", "postern")),
    Aim("real SDK server, 16 callers, against direct", ">=", 0.80, lambda v: v.ratio("postern_sdk", "sdk", callers=16)),
)


def medians(samples: Mapping[Cell, Sequence[Sample]]) -> Figures:
    """Return the median of every figure of every cell."""
    figures: Figures = {era: {} for era in ERAS if any(cell.era == era for cell in samples)}
    for cell, taken in samples.items():
        columns = [asdict(sample) for sample in taken]
        found = {key: round(median(column[key] for column in columns), 3) for key in columns[0]}
        figures[cell.era].setdefault(cell.name, {})[str(cell.callers)] = found
    return figures


def verdicts(figures: Figures, commit_us: float) -> list[Verdict]:
    """Return every target with its figure, era by era."""
    made: list[Verdict] = []
    for era, found in figures.items():
        view = View(found, commit_us)
        for aim in AIMS:
            measured = aim.measure(view)
            is_met = measured >= aim.limit if aim.relation == ">=" else measured <= aim.limit
            sign = "≥" if aim.relation == ">=" else "≤"
            made.append(Verdict(aim.figure, era, f"{sign} {aim.limit:g}", round(measured, 3), is_met))
    return made


def main_view(result: Mapping[str, Any], era: EraName = "2026-07-28") -> View:
    """Return the figures of one era of a result file."""
    return View(result["figures"][era], float(result["commit_us"]))
