"""The line in front of the flusher: order, bounds, room."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.audit.canonical import Encoder
from proxy.audit.entry import Entry, encode_entry, minimal, owed
from proxy.audit.errors import AuditUnavailable
from proxy.audit.line import Line
from proxy.audit.record import Intent, Row, Status
from tests.unit.audit.samples import call, outcome, refusal, request


def entry(size: int = 1, number: int = 0) -> Entry:
    return Entry("row", refusal(str(number)), bytes(size), None, 0.0, is_patient=False)


@given(st.lists(st.integers(1, 50)), st.integers(1, 5), st.integers(1, 100))
def test_batches_keep_the_order_and_their_bounds(sizes: list[int], most: int, most_bytes: int) -> None:
    line, entries = Line(10**6, 10**6), [entry(size) for size in sizes]
    for each in entries:
        line.add(each)
    taken: list[Entry] = []
    while line:
        batch = line.take(most, most_bytes)
        assert 1 <= len(batch) <= most
        assert sum(len(each.body) for each in batch[:-1]) < most_bytes
        taken += batch
    assert taken == entries


def test_what_is_put_back_comes_first() -> None:
    line, (a, b, c) = Line(9, 999), (entry(), entry(), entry())
    for each in (a, b, c):
        line.add(each)
    batch = line.take(2, 999)
    line.put_back(batch)
    assert line.take(9, 999) == [a, b, c]


async def test_room_is_given_in_turn_and_not_for_ever() -> None:
    line = Line(1, 999)
    line.add(entry())
    assert line.is_full
    assert not await line.room(0.01)
    waiting = [asyncio.create_task(line.room(5)) for _ in range(2)]
    await asyncio.sleep(0)
    line.take(1, 999)
    assert await waiting[0]
    assert not waiting[1].done()
    waiting[1].cancel()


async def test_bytes_fill_the_line_too() -> None:
    line = Line(999, 10)
    line.add(entry(size=10))
    assert line.is_full
    line.remove(lambda _: True)
    assert not line.is_full


OWED: list[tuple[Intent | Row, Status, str]] = [
    (call()[0], Status.FAILED, "audit.unavailable"),
    (call()[1], Status.FAILED, "audit.unavailable"),
    (refusal(), Status.DENIED, "auth.missing"),
    (Row(request(), outcome(Status.CANCELLED)), Status.CANCELLED, "audit.unavailable"),
]


@pytest.mark.parametrize(("record", "status", "decision"), OWED)
def test_an_owed_row_says_what_the_caller_was_told(record: Intent | Row, status: Status, decision: str) -> None:
    row = owed(record, record.request.started)
    assert (row.outcome.status, row.outcome.decision, row.outcome.http_status) == (status, decision, 503)
    assert row.request is record.request


@pytest.mark.parametrize("record", [*call(), refusal()])
def test_a_reduced_record_keeps_what_identifies_it(record: Intent | Row) -> None:
    reduced = minimal(record, "why")
    assert reduced.request.execution_id == record.request.execution_id
    assert reduced.request.started == record.request.started
    assert reduced.request.server == record.request.server
    if isinstance(record, Row):
        assert isinstance(reduced, Row)
        assert reduced.outcome.status == record.outcome.status


def test_a_record_that_cannot_be_encoded_at_all_is_unavailable() -> None:
    broken: Any = request(execution_id="not a uuid")
    with pytest.raises(AuditUnavailable, match="cannot be encoded"):
        encode_entry(Encoder("h"), Row(broken, outcome()), None, 0, is_patient=False)
