"""The two ways into PostgreSQL hold the same fields: those that the chain hashes."""

import struct
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from proxy.audit.canonical import COLUMNS, Encoder
from proxy.audit.chain import STORED_COLUMNS, Link, Links, genesis
from proxy.audit.record import Intent, Outcome, Request, Row
from proxy.audit.tuples import COPY_HEADER, COPY_TRAILER, batched, copied
from proxy.audit.walk import CopyReader
from tests.unit.audit.generated import outcomes, records, requests
from tests.unit.audit.reference import TYPES

WRITER = UUID("01936f2c-7d40-7000-8000-00000000beef")
OIDS = {"int2": 21, "int8": 20, "text": 25, "uuid": 2950, "time": 1184, "texts": 1009, "bytes": 17}
RECORD_TYPE = 77_777


def linked(made: Iterable[Intent | Row], encoder: Encoder | None = None) -> list[Link]:
    encoder, links, head = encoder or Encoder("host"), Links(WRITER), genesis(WRITER)
    into: list[Link] = []
    for each in made:
        if isinstance(each, Intent):
            head = links.append(into, head, "intent", encoder.intent(each))
        else:
            head = links.append(into, head, "row", encoder.row(each))
    return into


def take(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the field at a position as it is, length included, and where the next one begins."""
    (length,) = struct.unpack_from(">i", data, at)
    end = at + 4 + max(length, 0)
    return data[at:end], end


def copied_fields(links: list[Link]) -> list[list[bytes]]:
    data, found = copied(links), list[list[bytes]]()
    assert data.startswith(COPY_HEADER)
    assert data.endswith(COPY_TRAILER)
    at = len(COPY_HEADER)
    for _ in links:
        assert struct.unpack_from(">h", data, at) == (len(STORED_COLUMNS),)
        at, fields = at + 2, list[bytes]()
        for _ in STORED_COLUMNS:
            field, at = take(bytes(data), at)
            fields.append(field)
        found.append(fields)
    assert at == len(data) - len(COPY_TRAILER)
    return found


def batched_fields(links: list[Link]) -> tuple[list[list[bytes]], set[tuple[int, ...]]]:
    """Return the fields of an array of records, and the types that its records say they have."""
    data, found, types = batched(links, RECORD_TYPE), list[list[bytes]](), set[tuple[int, ...]]()
    assert struct.unpack_from(">iiIii", data) == (1, 0, RECORD_TYPE, len(links), 1)
    at = 20
    for _ in links:
        record, at = take(data, at)
        assert struct.unpack_from(">i", record, 4) == (len(STORED_COLUMNS),)
        within, fields, oids = 8, list[bytes](), list[int]()
        for _ in STORED_COLUMNS:
            oids += struct.unpack_from(">I", record, within)
            field, within = take(record, within + 4)
            fields.append(field)
        assert within == len(record)
        found.append(fields)
        types.add(tuple(oids))
    assert at == len(data)
    return found, types


@given(st.lists(records, min_size=1, max_size=5))
def test_a_batch_holds_the_fields_of_the_copy_and_those_are_hashed(made: list[Intent | Row]) -> None:
    links = linked(made)
    fields, types = batched_fields(links)
    assert fields == copied_fields(links)
    assert types == {
        tuple(OIDS["bytes" if name.endswith("_hash") else TYPES.get(name, "text")] for name in STORED_COLUMNS)
    }
    assert [b"".join(each[: len(COLUMNS)]) for each in fields] == [link.canonical for link in links]
    assert all(link.computed == link.row_hash for link in CopyReader().feed(bytes(copied(links))))


@given(requests, outcomes)
def test_a_row_after_its_intent_is_the_row_alone(asked: Request, ended: Outcome) -> None:
    """What is remembered changes nothing."""
    intent, row = Intent(asked), Row(asked, ended)
    encoder = Encoder("host")
    encoder.intent(intent)
    assert encoder.row(row) == Encoder("host").row(row) == encoder.row(row)


def test_the_migration_declares_the_columns_in_their_order() -> None:
    migrations = Path(__file__).parents[3] / "registry" / "database" / "migrations"
    declared = (
        (migrations / "0008_audit_batch.sql").read_text().partition("CREATE TYPE audit_link AS (")[2].partition(");")[0]
    )
    assert tuple(each.split()[0] for each in declared.split(",")) == STORED_COLUMNS
