"""`verify`: every chain from its genesis to its end, in pieces, flat in memory (SPEC A6)."""

import json
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast
from uuid import UUID

from proxy.audit.chain import STORED_COLUMNS, Head
from proxy.audit.checkpoint import Checkpoint, head_of, read_checkpoint
from proxy.audit.findings import ChainCheck, Code, Evidence, Finding, Listing
from proxy.audit.keys import PublicKeys
from proxy.audit.walk import CopyReader
from registry.database.driver import Connection, Record
from registry.database.queries import load

PIECE: Final = 20_000
PAGE: Final = 5_000
MOST_WITHOUT_PLACE: Final = 1_000
FIRST_SEQ: Final = 1
LAST_SEQ: Final = 2**63 - 1
_SQL = load("proxy.audit", "verify.sql")
_ENTRIES: Final = _SQL["entries"].replace("{columns}", ", ".join(STORED_COLUMNS))

Progress = Callable[[int, int], None]
"""Called with entries verified and entries in all."""


@dataclass
class Report(Listing):
    """What was verified. `uncovered` entries are behind the last checkpoint: only their chain protects them.

    Of entries without a place in any chain at most `MOST_WITHOUT_PLACE` of each kind are looked at.
    """

    entries: int = 0
    writers: int = 0
    checkpoints: int = 0
    unchecked: int = 0
    uncovered: int = 0


async def verify(
    database: Connection,
    keys: PublicKeys,
    file: Iterable[Checkpoint] = (),
    progress: Progress = lambda _done, _all: None,
    most: int = 100,
) -> Report:
    """Verify all chains; list the first `most` findings of each code. The file's checkpoints count like the table's."""
    report = Report(most)
    evidence = await _evidence(database, keys, file, report)
    report.add(_hiding(await database.fetch(_SQL["hiding"])))
    report.add(map(_without_place, await database.fetch(_SQL["without_writer"], MOST_WITHOUT_PLACE)))
    writers = {row["writer_id"]: row for row in await database.fetch(_SQL["writers"])}
    total = sum(max(row["last_seq"], 0) for row in writers.values())
    for writer in sorted({*writers, *evidence.heads, *evidence.dropped}):
        found = writers.get(writer)
        before = report.entries
        check, listing = await _whole_chain(
            database, evidence, writer, found, most, lambda count, before=before: progress(before + count, total)
        )
        report.join(listing)
        report.entries += check.entries
        report.writers += 1
        vouched = max(evidence.heads.get(writer, {}), default=0)
        report.uncovered += check.head.seq - min(check.head.seq, max(vouched, check.pruned))
        if found is not None and not found["is_announced"]:
            message = "this chain was never opened by a writer: it was put there, or its opening was removed"
            report.add([Finding(Code.UNANNOUNCED, message, writer)])
    return report


async def _evidence(database: Connection, keys: PublicKeys, file: Iterable[Checkpoint], report: Report) -> Evidence:
    """Weigh the checkpoints of table and file, and report what is wrong with them."""
    evidence = Evidence(keys, {(each.statement, each.signature): each for each in file})
    unreadable: list[int] = []
    async for each in stored_checkpoints(database, unreadable):
        evidence.take(each)
    evidence.conclude()
    report.checkpoints, report.unchecked = evidence.count, evidence.unchecked
    report.add(evidence.findings)
    report.add(Finding(Code.BAD_SIGNATURE, f"checkpoint {each} of the table is no statement") for each in unreadable)
    return evidence


async def _whole_chain(  # noqa: PLR0917  of what, against what, and who is told
    database: Connection, evidence: Evidence, writer: UUID, found: Any, most: int, progress: Callable[[int], None]
) -> tuple[ChainCheck, Listing]:
    """Check a chain; again, where something is wrong with it and entries of it were pruned meanwhile."""
    while True:
        check, listing = _check(writer, evidence, found), Listing(most)
        await _walk(database, check, listing, progress)
        if not listing.found or not await _has_been_pruned(database, evidence, writer):
            return check, listing


async def _has_been_pruned(database: Connection, evidence: Evidence, writer: UUID) -> bool:
    """Learn of prunes that came since the checkpoints were read; say whether one concerns this chain."""
    known = len(evidence.dropped.get(writer, {}))
    for row in await database.fetch(_SQL["prunes"]):
        with suppress(ValueError):
            evidence.learn_prune(read_checkpoint(row["statement"], row["key_id"], row["signature"]))
    return len(evidence.dropped.get(writer, {})) > known


async def stored_checkpoints(database: Connection, unreadable: list[int]) -> AsyncGenerator[Checkpoint]:
    """Yield the checkpoints of the table in their order; add the ids of rows that are none to `unreadable`."""
    after = -(2**63)
    while page := await database.fetch(_SQL["checkpoints"], after, PAGE):
        after = page[-1]["checkpoint_id"]
        for row in page:
            try:
                yield read_checkpoint(row["statement"], row["key_id"], row["signature"])
            except ValueError:
                unreadable.append(row["checkpoint_id"])


def read_closing(detail: str | None) -> Head | None:
    """Return the last entry that the event `closed` of a writer names; it is not signed, and may be rubbish."""
    try:
        return head_of(json.loads(detail)) if detail else None
    except (ValueError, KeyError, TypeError):
        return None


def _check(writer: UUID, evidence: Evidence, found: Any) -> ChainCheck:
    heads = dict(evidence.heads.get(writer, {}))
    closed = read_closing(found["closed"]) if found is not None else None
    if closed is not None:
        heads.setdefault(closed.seq, closed.hash)
    return ChainCheck(writer, heads, evidence.dropped.get(writer, {}))


async def _walk(database: Connection, check: ChainCheck, listing: Listing, progress: Callable[[int], None]) -> None:
    """List what is wrong in a chain; `progress` hears after each piece how many entries it had."""
    listing.add(map(_without_place, await database.fetch(_SQL["without_place"], check.writer, MOST_WITHOUT_PLACE)))
    start = FIRST_SEQ
    while (begin := await database.fetchval(_SQL["next_seq"], check.writer, start)) is not None:
        end = min(begin + PIECE - 1, LAST_SEQ)
        await _feed(database, check, listing, begin, end)
        progress(check.entries)
        if end == LAST_SEQ:
            break
        start = end + 1
    listing.add(check.finish())


async def _feed(database: Connection, check: ChainCheck, listing: Listing, begin: int, end: int) -> None:
    """Check the links with the numbers `begin` to `end` as they come: no more than one entry is held at a time."""
    reader = CopyReader()

    async def take(data: bytes) -> None:
        for link in reader.feed(data):
            listing.add(check.feed(link))

    await cast("Any", database).copy_from_query(_ENTRIES, check.writer, begin, end, output=take, format="binary")


def _hiding(tables: Iterable[Record]) -> Iterator[Finding]:
    """Yield by what readers of the log may see less than what is verified."""
    for table in tables:
        if table["is_filtered"]:
            yield Finding(Code.HIDDEN, f"row level security of {table['name']} may hide rows from its readers")
        if table["is_another"]:
            yield Finding(
                Code.HIDDEN, f"{table['name']} is no part of audit_entries: readers see other rows than these"
            )


def _without_place(row: Record) -> Finding:
    """Return the finding about an entry that stands in no chain."""
    return Finding(
        Code.INSERTED,
        "it has no place in any chain: no writer wrote it",
        *(row["writer_id"], row["seq"], row["kind"], row["execution_id"], row["started_at"]),
    )
