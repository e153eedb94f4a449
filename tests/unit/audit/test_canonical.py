"""The canonical form: the same bytes as PostgreSQL sends, as docs/audit.md specifies, and never refused."""

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.audit.canonical import COLUMNS, NULL, WORD_BYTES, Encoder, microseconds, moment, number, text
from proxy.audit.chain import Head, Link, Links, genesis
from proxy.audit.record import Intent, Outcome, Payload, Request, Row, Scopes, Status, Subject
from proxy.audit.tuples import COPY_HEADER, copied
from proxy.audit.walk import CopyReader
from proxy.audit.walk import Link as Found
from tests.unit.audit import reference
from tests.unit.audit.generated import requests
from tests.unit.audit.samples import call, outcome, refusal, request

VECTORS = Path(__file__).parents[2] / "vectors" / "audit_chain.json"
WRITER = UUID("01936f2c-7d40-7000-8000-00000000beef")
BEGUN = datetime(2026, 11, 23, 3, 12, 0, 1, tzinfo=UTC)


def chained(*bodies: tuple[Any, bytes], writer: UUID = WRITER) -> tuple[bytes, Head]:
    links, head = Links(writer), genesis(writer)
    linked: list[Link] = []
    for kind, body in bodies:
        head = links.append(linked, head, kind, body)
    return bytes(copied(linked)), head


def read(copied: bytes, piece: int = 1 << 20) -> list[Found]:
    reader = CopyReader()
    return [link for at in range(0, len(copied), piece) for link in reader.feed(copied[at : at + piece])]


def vectors() -> list[dict[str, Any]]:
    return json.loads(VECTORS.read_text())["entries"]


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector["name"])
def test_vectors_hash_as_published(vector: dict[str, Any]) -> None:
    """Anyone who implements docs/audit.md gets these bytes and this hash."""
    made = reference.canonical(vector["entry"])
    assert made.hex() == vector["canonical"]
    assert hashlib.sha256(bytes.fromhex(vector["prev_hash"]) + made).hexdigest() == vector["row_hash"]


def test_vectors_are_one_chain_from_its_genesis() -> None:
    writer = UUID(vectors()[0]["entry"]["writer_id"])
    previous = hashlib.sha256(b"postern audit chain 1\n" + writer.bytes).hexdigest()
    assert previous == genesis(writer).hash.hex()
    for number_, vector in enumerate(vectors(), start=1):
        assert (vector["prev_hash"], vector["entry"]["seq"]) == (previous, number_)
        previous = vector["row_hash"]


def vector_records() -> list[tuple[str, Intent | Row]]:
    """What the vectors were made from."""
    plain = Request(UUID("019abc00-0000-7000-8000-000000000001"), "notes", BEGUN, "POST", "tools/call", "search")
    full = replace(
        plain,
        execution_id=UUID("019abc00-0000-7000-8000-000000000002"),
        subject=Subject("bearer", "https://issuer.example/", "alice", "client-1", "assistant", "sso"),
        audience="https://gateway.example/notes/mcp",
        scopes=Scopes(("notes:read",), ("notes:write", "profile"), ("notes:write",)),
        session="s1",
        protocol_version="2026-07-28",
        trace_id="0af7651916cd43dd8448eb211c80319c",
        remote="192.0.2.1",
        input=Payload('{"text":"grün"}', 16, hashlib.sha256(b"in").digest()),
    )
    ended = Outcome(
        Status.SUCCESS, "allowed", "notes:write satisfies notes:read", 200, BEGUN + timedelta(seconds=1), 1_000_000, 990_000,
        Payload('{"content":[]}', 14, hashlib.sha256(b"out").digest()), "sha256:00", "text", None, 3, ({"hook": "mask"},),
    )  # fmt: skip
    flood = Outcome(Status.DENIED, "limit.rate", "too many", 429, BEGUN, 0, repeats=250, last_seen=BEGUN + timedelta(9))
    hostile = replace(plain, execution_id=UUID("019abc00-0000-7000-8000-000000000003"), tool="a\0b\udc80")
    return [
        ("an intent with nothing optional", Intent(plain)),
        ("an intent", Intent(full)),
        ("its row", Row(full, ended)),
        (
            "a row of repeated refusals, before the epoch of nobody",
            Row(replace(plain, started=BEGUN - timedelta(days=9999)), flood),
        ),
        ("text that PostgreSQL refuses, as it is stored", Row(hostile, replace(ended, output=None, hooks=()))),
    ]


def test_the_encoder_makes_the_vectors() -> None:
    encoder = Encoder("host-1")
    bodies: list[tuple[Any, bytes]] = [
        ("intent", encoder.intent(record)) if isinstance(record, Intent) else ("row", encoder.row(record))
        for _, record in vector_records()
    ]
    links = read(chained(*bodies)[0])
    assert [link.row_hash.hex() for link in links] == [vector["row_hash"] for vector in vectors()]
    assert [name for name, _ in vector_records()] == [vector["name"] for vector in vectors()]


@given(st.text(alphabet=st.characters(codec=None, exclude_categories=()), max_size=50), st.integers(8, 40))
def test_any_text_becomes_storable_utf8_within_its_limit(value: str, limit: int) -> None:
    field = text(value, limit)
    raw = field[4:]
    assert int.from_bytes(field[:4], "big") == len(raw) <= limit
    assert b"\0" not in raw
    raw.decode("utf-8", "strict")


def test_null_and_empty_text_differ() -> None:
    assert text(None, 9) == NULL
    assert text("", 9) == b"\0\0\0\0"


@given(st.integers(-(2**80), 2**80))
def test_any_number_fits_64_bits(value: int) -> None:
    assert 0 <= int.from_bytes(number(value)[4:], "big", signed=True) < 2**63


OFFSETS = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(timezones=OFFSETS, min_value=BEGUN.replace(year=1901, tzinfo=None)))
def test_times_keep_their_microseconds(value: datetime) -> None:
    assert moment(microseconds(value)) == value


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(TypeError):
        microseconds(datetime(2026, 1, 1))  # noqa: DTZ001


@given(st.lists(requests, min_size=1, max_size=4), st.integers(1, 300))
def test_a_copy_cut_anywhere_reads_back_and_every_link_holds(asked: list[Request], piece: int) -> None:
    encoder = Encoder("host")
    made, head = chained(*(("intent", encoder.intent(Intent(each))) for each in asked))
    links = read(made, piece)
    assert [link.execution_id for link in links] == [each.execution_id for each in asked]
    assert [link.started_at for link in links] == [each.started for each in asked]
    assert all(link.computed == link.row_hash for link in links)
    assert links[-1].row_hash == head.hash


@given(st.data())
def test_any_changed_byte_of_an_entry_is_seen(data: st.DataObject) -> None:
    encoder = Encoder("host")
    intent, row = call()
    made, _ = chained(("intent", encoder.intent(intent)), ("row", encoder.row(row)), ("row", encoder.row(refusal())))
    place = data.draw(st.integers(len(COPY_HEADER), len(made) - 3))
    changed = bytearray(made)
    changed[place] ^= data.draw(st.integers(1, 255))
    try:
        links = read(bytes(changed))
    except (ValueError, OverflowError):
        return
    expected, whole = genesis(WRITER), True
    for link in links:
        whole = (
            whole
            and link.computed == link.row_hash
            and link.prev_hash == expected.hash
            and link.seq == expected.seq + 1
        )
        expected = Head(link.seq, link.row_hash)
    assert not (whole and len(links) == 3 and expected.hash == read(made)[-1].row_hash)


def test_something_else_is_no_copy() -> None:
    with pytest.raises(ValueError, match="not a binary COPY"):
        list(CopyReader().feed(b"x" * 40))


def test_long_scope_lists_are_cut() -> None:
    many = Scopes((), tuple(f"s{n}" for n in range(2000)), ())
    assert len(Encoder("h").intent(Intent(request(scopes=many)))) < WORD_BYTES * 20


def test_odd_hooks_are_still_a_row() -> None:
    for hooks in (({"at": BEGUN},), ({"n": 2**200},), ({"bad": "\ud800"},)):
        assert Encoder("h").row(Row(request(), outcome(hooks=hooks)))


def test_the_documented_columns_are_the_hashed_ones() -> None:
    page = (Path(__file__).parents[3] / "docs" / "audit.md").read_text()
    listed = page.partition("<!-- columns -->")[2].partition("<!-- /columns -->")[0]
    assert tuple(listed.replace("`", "").split()) == COLUMNS == tuple(reference.ORDER)


def test_what_callers_choose_does_not_fill_the_memory() -> None:
    encoder = Encoder("h")
    for number_ in range(5000):
        encoder.intent(Intent(request(tool=f"t{number_}", method="m" * 100_000, scopes=Scopes((f"s{number_}",)))))
    assert len(encoder._words) <= 4096
    assert len(encoder._scope_lists) <= 4096
    assert max(len(key or "") for key in encoder._words) <= 512


def test_what_the_encoder_remembers_does_not_grow_with_the_words_of_callers() -> None:
    """A word that is cut must not be kept as the key of its cut form."""
    encoder = Encoder("gw-1")
    for length in (1_000, 100_000):
        encoder.row(Row(request(tool="t" * length), outcome()))
        encoder.row(Row(request(subject=Subject("bearer", "i", "s" * length)), outcome()))
    assert sum(len(part) for key in encoder._asked for part in key if isinstance(part, str)) < 5_000
    assert all(len(word or "") <= 512 for word in encoder._words)
