"""A defect of ours leaves a row and an answer, too."""

from types import SimpleNamespace

import pytest

from proxy.audit.limits import Counters
from proxy.audit.record import Intent, Row, Status
from proxy.edge import HttpExchange
from proxy.executor import Executor
from proxy.pipeline import Pipeline
from proxy.wire.fields import Fields
from registry.models import AuditSettings

ROUTE = SimpleNamespace(server=None, audience="")


class Sink:
    """An audit sink in memory."""

    healthy = True

    def __init__(self) -> None:
        self.counters = Counters()
        self.rows: list[Row] = []

    async def write_intent(self, intent: Intent) -> None:
        raise AssertionError(f"nothing is dispatched: {intent}")

    async def write_row(self, row: Row) -> None:
        self.rows.append(row)


class Line:
    """A client's connection in memory."""

    remote = "127.0.0.1"
    is_full = False

    def __init__(self) -> None:
        self.sent = b""

    def send(self, data: bytes, *more: bytes) -> None:
        self.sent += b"".join((data, *more))

    def date(self) -> bytes:
        return b""

    def rest(self) -> None:
        """Nothing arrives."""

    def go_on(self) -> None:
        """Nothing arrives."""

    async def drained(self) -> None:
        """Memory is always writable."""


class BrokenDoor:
    """A collaborator with a defect."""

    class forwarders:  # noqa: N801 -- stands for an attribute
        @staticmethod
        def client_of(peer: str, _headers: object) -> str:
            return peer

    def enter(self, _headers: object) -> None:
        raise ZeroDivisionError


@pytest.mark.anyio
async def test_defect_is_recorded_and_answered_with_500() -> None:
    """The caller gets the execution id and no traceback; the row says `proxy.defect`."""
    sink, line = Sink(), Line()
    executor = Executor(sink, {}, None, AuditSettings())  # pyright: ignore[reportArgumentType] -- no session is reached
    pipeline = Pipeline({"/a/mcp": ROUTE}, BrokenDoor(), None, None, executor)  # pyright: ignore[reportArgumentType]
    exchange = HttpExchange(line, "POST", ("/a/mcp", b""), Fields.of([]), is_legacy=False)
    exchange.complete()
    await pipeline.handle(exchange)
    assert line.sent.startswith(b"HTTP/1.1 500 ")
    assert b"proxy.defect" in line.sent
    assert b"ZeroDivision" not in line.sent
    assert [(row.outcome.status, row.outcome.decision) for row in sink.rows] == [(Status.FAILED, "proxy.defect")]
    assert sink.counters.answered == 1
