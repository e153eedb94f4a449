"""What a cost may grow with, one proxy (or one server behind it) per value, all of them running side by side."""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tests.bench.filling import add_database, add_rows, add_sessions, write_out
from tests.bench.message import EraName
from tests.bench.placement import on
from tests.bench.stage import SCOPES, Stage, Target, section, token

Rule = Literal["steady", "linear", "shown"]
STREAM_DOORS = 2
"""One server takes 4,096 streams at the most."""


@dataclass(frozen=True, slots=True)
class Factor:
    """`rule`: the cost of a call may not depend on it, or grow no faster than it, or is only shown.

    `build` starts what has the value and returns it as a target.
    """

    name: str
    values: Sequence[int]
    rule: Rule
    build: Callable[["GrowthStage", int], Target]
    era: EraName = "2026-07-28"


class GrowthStage(Stage):
    """A stage whose targets are values of factors."""

    def add(self, factor: Factor, value: int) -> Target:
        """Start what has the value."""
        target = replace(factor.build(self, value), name=f"{factor.name} {value}")
        self.targets[target.name] = target
        return target

    def body(self, size: int) -> Target:
        """A call and an answer of that size."""
        with on(self.placement.rest):
            port = self.start_server(f"upstream {size}", "tests.bench.upstream", "--answer-bytes", str(size))
        return replace(self._proxy(f"body-{size}", {"fast": section(port, SCOPES)}), body_bytes=size)

    def servers(self, count: int) -> Target:
        """One of so many servers, called by one of so many agents."""
        made = {"fast": section(self.fast, SCOPES)}
        made |= {f"other{number}": section(self.fast, SCOPES) for number in range(1, count)}
        return self._proxy(f"servers-{count}", made)

    def rows(self, count: int) -> Target:
        """An audit log that has so many rows already."""
        return self._proxy(f"rows-{count}", dsn=self._database(f"bench_rows_{count}", rows=count))

    def sessions(self, count: int) -> Target:
        """So many sessions, each call in the next one."""
        name = f"bench_sessions_{count}"
        dsn = self._database(name)
        with on(self.placement.rest):
            ids = add_sessions(self.postgres.dsn("postern_owner", name), count)
        return replace(self._proxy(f"sessions-{count}", dsn=dsn), many_sessions=tuple(ids))

    def streams(self, count: int) -> Target:
        """So many open streams beside the calls."""
        doors = {"fast": section(self.fast, SCOPES)}
        doors |= {f"stream{number}": section(self.fast, SCOPES) for number in range(STREAM_DOORS)}
        target = self._proxy(f"streams-{count}", doors)
        base = target.url.rsplit("/", 2)[0]
        lines = [f"{base}/stream{n}/mcp {token(self.sidecars[-1], f'stream{n}', SCOPES)}" for n in range(STREAM_DOORS)]
        command = [sys.executable, "-m", "tests.bench.standing", "--doors", str(STREAM_DOORS), "--streams", str(count)]
        with on(self.placement.rest):
            crowd = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.own(f"streams {count}", crowd)
        assert crowd.stdin is not None
        assert crowd.stdout is not None
        crowd.stdin.write("".join(f"{line}\n" for line in lines))
        crowd.stdin.flush()
        if crowd.stdout.readline().strip() != str(count):
            raise AssertionError(f"{count} streams cannot be opened")
        return target

    def workers(self, count: int) -> Target:
        """So many processes on one port."""
        return self._proxy(f"workers-{count}", more={"proxy": {"workers": count}})

    def _proxy(
        self,
        name: str,
        servers: dict[str, dict[str, object]] | None = None,
        more: Mapping[str, object] | None = None,
        dsn: str | None = None,
    ) -> Target:
        with on(self.placement.target):
            self.add_postern(name, servers=servers, more=dict(more or {}), dsn=dsn)
        return self.targets.pop(name)

    def _database(self, name: str, rows: int = 0) -> str:
        with on(self.placement.rest):
            add_database(self.postgres, name)
            add_rows(self.postgres.dsn("postern_owner", name), rows)
            write_out(self.postgres)
        return self.postgres.dsn("postern_proxy", name)


FACTORS: Sequence[Factor] = (
    Factor("bytes each way", (1_024, 16_384, 262_144, 1_048_576), "linear", GrowthStage.body),
    Factor("servers and agents", (1, 50, 300), "steady", GrowthStage.servers),
    Factor("rows in the log", (10_000, 100_000, 1_000_000, 10_000_000), "steady", GrowthStage.rows),
    Factor("sessions in use", (1_000, 10_000, 100_000), "steady", GrowthStage.sessions, "2025-11-25"),
    Factor("open streams", (1, 1_000, 5_000), "linear", GrowthStage.streams),
    Factor("workers", (1, 2), "shown", GrowthStage.workers),
)
