"""Rounds of cells, shuffled, so that what disturbs the machine disturbs every target alike."""

import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from json import loads

from tests.bench import usage
from tests.bench.message import EraName
from tests.bench.placement import on, released
from tests.bench.stage import Stage, Target
from tests.bench.wrk import Load, Wrk

SDK_PAIR = ("sdk", "postern_sdk")
SDK_CALLERS = 16
SETTLE_S = 0.15
_WARM_S = 5


@dataclass(frozen=True, slots=True)
class Cell:
    """What is measured at once: a target, an era, a number of callers."""

    name: str
    era: EraName
    callers: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One visit of a cell. CPU in microseconds a request; `foreign`: share of one core that others used."""

    rps: float
    p50_us: float
    p99_us: float
    cpu_us: float
    postgres_us: float
    foreign: float
    answers: int


def cells_of(eras: Sequence[EraName], callers: Sequence[int], names: Sequence[str]) -> list[Cell]:
    """Return every cell; the real MCP server is asked by 16 callers only."""
    alone = [name for name in names if name not in SDK_PAIR]
    plain = [Cell(name, era, count) for name, era, count in product(alone, eras, callers)]
    return plain + [Cell(n, era, SDK_CALLERS) for n in names if n in SDK_PAIR for era in eras]


class Rounds:
    """Visits cells; `answers` counts what Postern has answered, by its server, for the rows to be held against."""

    def __init__(self, stage: Stage, seconds: int, tell: Callable[[str], None]) -> None:
        self.samples: dict[Cell, list[Sample]] = {}
        self.commits_us: list[float] = []
        self.answers = 0
        self.cut = 0
        self._stage = stage
        self._seconds = seconds
        self._tell = tell
        self._wrk = Wrk(stage.root)
        self._postgres = usage.tree([stage.postgres.pid or 0])

    def run(self, cells: Sequence[Cell], rounds: int, choose: random.Random) -> None:
        """Warm every cell, then visit it in every round once, each time in another order."""
        for cell in cells:
            self._warm(cell)
        for number in range(1, rounds + 1):
            order = list(cells)
            choose.shuffle(order)
            for cell in order:
                self.samples.setdefault(cell, []).append(self._visit(cell, self._seconds))
            self.commits_us.append(self._commit())
            self._tell(f"round {number} of {rounds}")

    def _warm(self, cell: Cell) -> None:
        """Visit the cell until every session of its target has been used."""
        left = len(self._stage.targets[cell.name].many_sessions)
        left -= self._visit(cell, 1).answers
        while left > 0:
            left -= self._visit(cell, _WARM_S).answers

    def _visit(self, cell: Cell, seconds: int) -> Sample:
        target = self._stage.targets[cell.name]
        if cell.name not in SDK_PAIR:
            with on(self._stage.placement.rest):
                return self._measure(target, cell, seconds)
        both = self._stage.placement.both
        pids = [*usage.tree([*target.roots, self._stage.processes["sdk"].pid]), *usage.tree(self._postgres)]
        with on(both), released(pids, both):
            return self._measure(target, cell, seconds)

    def _measure(self, target: Target, cell: Cell, seconds: int) -> Sample:
        own, postgres, upstream = usage.tree(target.roots), usage.tree(self._postgres), self._upstreams()
        groups = (own, postgres, upstream)
        before, busy = [usage.cpu_s(pids) for pids in groups], usage.machine_busy_s()
        message = target.message(cell.era)
        load = self._wrk.run(target.url, message, cell.callers, seconds, target.many_sessions)
        busy = usage.machine_busy_s() - busy
        used = [usage.cpu_s(pids) - was for pids, was in zip(groups, before, strict=True)]
        ours = used[0] + used[1] + (0.0 if set(own) & set(upstream) else used[2]) + load.cpu_s
        self._count(target, cell, load)
        time.sleep(SETTLE_S)
        return Sample(
            rps=load.answers / load.seconds,
            p50_us=load.p50_us,
            p99_us=load.p99_us,
            cpu_us=used[0] / load.answers * 1e6,
            postgres_us=used[1] / load.answers * 1e6,
            foreign=max(0.0, busy - ours) / load.seconds,
            answers=load.answers,
        )

    def _upstreams(self) -> list[int]:
        return [process.pid for name, process in self._stage.processes.items() if name in {"upstream", "sdk"}]

    def _count(self, target: Target, cell: Cell, load: Load) -> None:
        if target.name in {"postern", "postern_sdk"}:
            self.answers += load.answers
            self.cut += cell.callers

    def _commit(self) -> float:
        """Return the median of bare commits, made where the proxy runs, against the same PostgreSQL."""
        command = [sys.executable, "-m", "tests.bench.commits", "--dsn", self._stage.postgres.dsn("postern_owner")]
        with on(self._stage.placement.target):
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return float(loads(done.stdout)["p50_us"])
