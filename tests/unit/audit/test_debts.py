"""What is owed after an outage: bounded in number and bytes, and nothing that reached a server is dropped."""

from proxy.audit.debts import Debts
from proxy.audit.record import Payload, Row
from tests.unit.audit.samples import outcome, refusal, request


def row(tool: str, text: str = "") -> Row:
    return Row(request(tool=tool, input=Payload(text, len(text), b"i" * 32)), outcome(output=None))


def test_what_reached_a_server_finds_room_in_a_flood_of_refusals() -> None:
    debts = Debts(most_entries=3, most_bytes=1_000)
    kept = [debts.add(refusal(), has_reached=False) for _ in range(5)]
    kept += [debts.add(row(str(number)), has_reached=True) for number in range(2)]
    assert kept == [True] * 3 + [False] * 2 + [True] * 2
    assert (len(debts), debts.dropped) == (5, 2)
    assert [each.request.tool for each in debts.pay()][-2:] == ["0", "1"]
    assert len(debts) == 0


def test_payloads_beyond_the_bytes_are_told_by_size_and_digest() -> None:
    debts = Debts(most_entries=10, most_bytes=100)
    for number in range(3):
        debts.add(row(str(number), "x" * 60), has_reached=True)
    inputs = [each.request.input for each in debts.pay()]
    assert [each.text is not None for each in inputs if each] == [True, False, False]
    assert {(each.size, each.sha256) for each in inputs if each} == {(60, b"i" * 32)}
    debts.add(row("later", "x" * 60), has_reached=True)
    assert next(debts.pay()).request.input != inputs[1], "what was paid makes room"
