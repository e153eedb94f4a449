"""`postern proxy` that kills itself with SIGKILL at a named point of its Nth passing there.

    before_intent ─ after_intent ─ after_upstream ─ before_row ─ after_row ─ before_answer ─ after_answer

The points are set through the seams that the runtime has anyway (audit sink, roads, exchange); nothing is patched.
Environment: CRASH_POINT, CRASH_AFTER (how many times the point is passed before).
"""

import os
import signal
from collections.abc import Sequence
from typing import Any, ClassVar

from proxy.audit.limits import Counters
from proxy.audit.record import Intent, Row
from proxy.edge import HttpExchange
from proxy.exchange import Header
from proxy.executor import AuditSink, Executor
from proxy.runtime import Runtime
from proxy.server import run

POINTS = (
    "before_intent",
    "after_intent",
    "after_upstream",
    "before_row",
    "after_row",
    "before_answer",
    "after_answer",
)


class Fuse:
    """Burns down by one at each passing of its point, then kills the process."""

    def __init__(self, point: str, after: int) -> None:
        self._point = point
        self._left = after

    def pass_by(self, point: str) -> None:
        """Die here if it is time."""
        if point != self._point:
            return
        self._left -= 1
        if self._left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


class FusedSink:
    """An audit sink with points around each commit."""

    def __init__(self, sink: AuditSink, fuse: Fuse) -> None:
        self._sink = sink
        self._fuse = fuse

    @property
    def healthy(self) -> bool:
        return self._sink.healthy

    @property
    def counters(self) -> Counters:
        return self._sink.counters

    async def write_intent(self, intent: Intent) -> None:
        self._fuse.pass_by("before_intent")
        await self._sink.write_intent(intent)
        self._fuse.pass_by("after_intent")

    async def write_row(self, row: Row) -> None:
        self._fuse.pass_by("before_row")
        await self._sink.write_row(row)
        self._fuse.pass_by("after_row")


class FusedPool:
    """A road with a point after the server's answer."""

    def __init__(self, pool: Any, fuse: Fuse) -> None:
        self._pool = pool
        self._fuse = fuse

    async def send(self, *request: Any, **options: Any) -> Any:
        response = await self._pool.send(*request, **options)
        self._fuse.pass_by("after_upstream")
        return response


class FusedExchange(HttpExchange):
    """An exchange with points around the answer."""

    fuse: ClassVar[Fuse]

    async def answer(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        self.fuse.pass_by("before_answer")
        await super().answer(status, headers, body)
        self.fuse.pass_by("after_answer")


class FusedExecutor(Executor):
    """An executor whose roads have a point."""

    fuse: Fuse

    def upstream(self, call: Any) -> Any:
        return FusedPool(super().upstream(call), self.fuse)


def fused(fuse: Fuse) -> type[Runtime]:
    """Return the runtime with the fuse in its seams."""

    class FusedRuntime(Runtime):
        exchange_type = FusedExchange

        def make_executor(self) -> Executor:
            executor = FusedExecutor(FusedSink(self.audit, fuse), self.roads, self.sessions, self.fleet.audit)
            executor.fuse = fuse
            return executor

    FusedExchange.fuse = fuse
    return FusedRuntime


if __name__ == "__main__":
    run(None, fused(Fuse(os.environ.get("CRASH_POINT", ""), int(os.environ.get("CRASH_AFTER", "0")))))
