"""A defect of ours leaves a row and an answer, too."""

from types import SimpleNamespace

import pytest

from proxy.audit.limits import Counters
from proxy.audit.record import Intent, Row, Status
from proxy.exchange import AsgiExchange, Message
from proxy.executor import Executor
from proxy.pipeline import Pipeline
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


class BrokenDoor:
    """A collaborator with a defect."""

    class forwarders:  # noqa: N801 -- stands for an attribute
        @staticmethod
        def client_of(peer: str, _headers: object) -> str:
            return peer

    def check(self, _headers: object) -> None:
        raise ZeroDivisionError


@pytest.mark.anyio
async def test_defect_is_recorded_and_answered_with_500() -> None:
    """The caller gets the execution id and no traceback; the row says `proxy.defect`."""
    sink, sent = Sink(), list[Message]()
    executor = Executor(sink, {}, None, AuditSettings())  # pyright: ignore[reportArgumentType] -- no session is reached
    pipeline = Pipeline({"/a/mcp": ROUTE}, BrokenDoor(), None, None, executor)  # pyright: ignore[reportArgumentType]
    scope = {"type": "http", "method": "POST", "path": "/a/mcp", "query_string": b"", "headers": [], "scheme": "http"}

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await pipeline.handle(AsgiExchange(scope, receive, send))
    assert sent[0]["status"] == 500
    assert b"proxy.defect" in sent[1]["body"]
    assert b"ZeroDivision" not in sent[1]["body"]
    assert [(row.outcome.status, row.outcome.decision) for row in sink.rows] == [(Status.FAILED, "proxy.defect")]
    assert sink.counters.answered == 1
