"""Chains against themselves and against signed statements, without a database."""

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st

from proxy.audit.chain import Head, genesis, link_hash
from proxy.audit.checkpoint import Dropped, read_checkpoint, sign, state_head, state_prune
from proxy.audit.errors import AuditStoreError
from proxy.audit.findings import ChainCheck, Code, Finding, describe, weigh
from proxy.audit.gaps import count_gaps
from proxy.audit.keys import PUBLIC_KEY, SIGNING_KEY, PublicKeys, Signer, public_keys_in, signer_in
from proxy.audit.prune import parse_bounds
from proxy.audit.walk import Link
from proxy.audit.when import parse_span, parse_when

WRITER = UUID(int=7 << 76 | 2 << 62 | 99)
NOW = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)
SIGNER = Signer(Ed25519PrivateKey.generate())


def trusted(signer: Signer = SIGNER) -> PublicKeys:
    key: Any = load_pem_public_key(signer.public_pem)
    return PublicKeys([key])


def chain(length: int) -> list[Link]:
    links: list[Link] = []
    previous = genesis(WRITER).hash
    for seq in range(1, length + 1):
        made = link_hash(previous, b"contents %d" % seq)
        links.append(Link(seq, "row", NOW, UUID(int=seq), previous, made, made))
        previous = made
    return links


def verdict(
    links: Iterable[Link], heads: dict[int, bytes] | None = None, dropped: Iterable[Dropped] = ()
) -> list[Finding]:
    check = ChainCheck(WRITER, heads or {}, {each.first: each for each in dropped})
    return [finding for link in links for finding in check.feed(link)] + list(check.finish())


def gone(links: list[Link], first: int, last: int) -> Dropped:
    previous, hash_ = links[first - 1].prev_hash.hex(), links[last - 1].row_hash.hex()
    return Dropped(str(WRITER), first, last, previous, hash_)


def test_a_whole_chain_fits() -> None:
    assert verdict(chain(9)) == []
    assert verdict([]) == []


@given(st.integers(1, 12), st.data())
def test_any_missing_range_in_the_middle_is_named(length: int, data: st.DataObject) -> None:
    links = chain(length)
    first = data.draw(st.integers(1, length))
    last = data.draw(st.integers(first, length))
    findings = verdict(links[: first - 1] + links[last:], {length: links[-1].row_hash})
    assert [finding.code for finding in findings] == [Code.TRUNCATED if last == length else Code.REMOVED]


@given(st.permutations(range(6)))
def test_any_other_order_is_found(order: list[int]) -> None:
    links = chain(6)
    moved = [
        Link(seq, "row", NOW, links[place].execution_id, links[place].prev_hash, links[place].row_hash, b"c" * 32 if place != seq - 1 else links[place].computed)
        for seq, place in enumerate(order, start=1)
    ]  # fmt: skip
    assert (verdict(moved) == []) == (order == sorted(order))


@given(st.integers(2, 14), st.data())
def test_pruned_ranges_connect_the_rest(length: int, data: st.DataObject) -> None:
    links = chain(length)
    kept = data.draw(st.sets(st.integers(1, length)))
    ranges: list[Dropped] = []
    run: list[int] = []
    for seq in [*range(1, length + 1), length + 2]:
        if seq not in kept and seq <= length:
            run.append(seq)
        elif run:
            ranges.append(gone(links, run[0], run[-1]))
            run = []
    left = [link for link in links if link.seq in kept]
    assert verdict(left, {length: links[-1].row_hash}, ranges) == []
    if ranges:
        assert verdict(left, {length: links[-1].row_hash}, ranges[1:]) != []


def test_a_prune_that_does_not_connect_is_found() -> None:
    links = chain(5)
    wrong = Dropped(str(WRITER), 1, 2, "00" * 32, links[1].row_hash.hex())
    assert [finding.code for finding in verdict(links[2:], {}, [wrong])] == [Code.BAD_PRUNE]


def test_a_prune_that_contradicts_a_checkpoint_is_found() -> None:
    links = chain(5)
    findings = verdict(links[2:], {2: b"x" * 32}, [gone(links, 1, 2)])
    assert [finding.code for finding in findings] == [Code.BAD_PRUNE]


def head_statement(seq: int = 3, **changes: Any) -> str:
    made = json.loads(state_head("head", WRITER, "host", Head(seq, b"h" * 32), {"rows": 1}, None, NOW))
    return json.dumps(made | changes, sort_keys=True, separators=(",", ":"))


def test_statements_read_back() -> None:
    head = read_checkpoint(head_statement(), "key", b"")
    assert (head.writer_id, head.head, head.at) == (WRITER, Head(3, b"h" * 32), NOW)
    gone = Dropped(str(WRITER), 1, 2, "00" * 32, "11" * 32)
    pruned = read_checkpoint(state_prune(["p"], [gone], NOW), "key", b"")
    assert pruned.dropped == (gone,)


BAD = [
    "",
    "[]",
    "{}",
    '"x"',
    head_statement(v=2),
    head_statement(kind="other"),
    head_statement(writer=1),
    head_statement(hash="zz"),
    json.dumps(json.loads(head_statement()) | {"seq": "x"}),
    head_statement(seq=-1),
    head_statement(seq=2**63),
    state_prune(["p"], [Dropped(str(WRITER), 3, 2, "00" * 32, "11" * 32)], NOW),
    state_prune(["p"], [Dropped(str(WRITER), 1, 2, "00", "11")], NOW),
    "[" * 100_000,
]


@pytest.mark.parametrize("statement", BAD)
def test_what_is_no_statement_is_refused(statement: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_checkpoint(statement, "key", b"")


def test_only_trusted_and_true_signatures_count() -> None:
    good = sign(head_statement(), SIGNER)
    forged = replace(good, statement=head_statement(4))
    assert weigh([good], [], trusted()).heads == {WRITER: {3: b"h" * 32}}
    assert [finding.code for finding in weigh([forged], [], trusted()).findings] == [Code.BAD_SIGNATURE]
    stranger = trusted(Signer(Ed25519PrivateKey.generate()))
    assert weigh([good], [], stranger).heads == {}
    assert weigh([good], [], PublicKeys()).unchecked == 1


def test_a_finding_says_who_and_where() -> None:
    (finding,) = verdict(chain(3)[1:])
    assert describe(finding) == (
        f"removed: writer {WRITER} entry 2 (row of execution {UUID(int=2)}, 2026-11-23T12:30:00+00:00): entry 1 is missing before it"
    )


def test_a_key_is_made_once_and_private(tmp_path: Path) -> None:
    made = signer_in(tmp_path)
    assert signer_in(tmp_path).key_id == made.key_id
    assert (tmp_path / SIGNING_KEY).stat().st_mode & 0o777 == 0o600
    assert PublicKeys.read([tmp_path / PUBLIC_KEY]).approve(made.key_id, "x", made.sign("x"))
    assert [file.name for file in sorted(tmp_path.iterdir())] == [SIGNING_KEY, PUBLIC_KEY]


def test_what_an_earlier_key_has_signed_can_be_checked_after_a_rotation(tmp_path: Path) -> None:
    """The operator moves the private key away; the next start makes another."""
    earlier = signer_in(tmp_path)
    (tmp_path / SIGNING_KEY).unlink()
    now = signer_in(tmp_path)
    assert signer_in(tmp_path).key_id == now.key_id
    assert now.key_id != earlier.key_id
    assert PublicKeys.read([tmp_path / PUBLIC_KEY]).knows(now.key_id)
    trusted = PublicKeys.read(public_keys_in(tmp_path))
    assert (len(trusted), trusted.knows(now.key_id), trusted.knows(earlier.key_id)) == (2, True, True)


def test_other_keys_are_refused(tmp_path: Path) -> None:
    rsa = generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for pem in (rsa, b"nonsense", SIGNER.public_pem):
        with pytest.raises(AuditStoreError):
            Signer.from_pem(pem)
    (tmp_path / "key").write_bytes(rsa)
    for file in (tmp_path / "key", tmp_path / "missing"):
        with pytest.raises(AuditStoreError, match=r"key|missing"):
            PublicKeys.read([file])


COUNTS = {"answered": 5, "rows": 5, "unrecorded": 0}


@pytest.mark.parametrize(
    ("changes", "rows", "codes"),
    [
        ({}, 5, []),
        ({"answered": 4}, 5, []),
        ({}, 4, ["row count"]),
        ({"answered": 6}, 5, ["answers without rows"]),
        ({"unrecorded": 2}, 5, ["unrecorded"]),
    ],
)
def test_counters_are_held_against_rows(changes: dict[str, int], rows: int, codes: list[str]) -> None:
    assert [gap.code for gap in count_gaps(WRITER, COUNTS | changes, rows)] == codes


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("15m", "2026-11-23T12:15:00+00:00"),
        ("2h", "2026-11-23T10:30:00+00:00"),
        ("7d", "2026-11-16T12:30:00+00:00"),
        ("today", "2026-11-23T00:00:00+00:00"),
        ("Yesterday", "2026-11-22T00:00:00+00:00"),
        ("now", "2026-11-23T12:30:00+00:00"),
        ("2026-11-01", "2026-11-01T00:00:00+00:00"),
        ("2026-11-01t05:00z", "2026-11-01T05:00:00+00:00"),
        ("2026-11-01T05:00+02:00", "2026-11-01T05:00:00+02:00"),
    ],
)
def test_times_as_people_type_them(text: str, iso: str) -> None:
    assert parse_when(text, NOW).isoformat() == iso


@pytest.mark.parametrize("text", ["", "soon", "15", "m15", "-1d", "2026-13-01"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_when(text, NOW)
    with pytest.raises(ValueError, match=r"such as 90d"):
        parse_span(text)


def test_partition_bounds() -> None:
    bounds = parse_bounds("FOR VALUES FROM ('2026-11-01 00:00:00+00') TO ('2026-12-01 00:00:00+00')")
    assert bounds == (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
    assert parse_bounds("DEFAULT") is None
