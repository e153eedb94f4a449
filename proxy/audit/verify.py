"""`verify`: every chain from its genesis to its end, in pieces, flat in memory (SPEC A6)."""

import json
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, cast
from uuid import UUID

from proxy.audit.chain import STORED_COLUMNS, Head
from proxy.audit.checkpoint import Checkpoint, head_of, read_checkpoint
from proxy.audit.findings import ChainCheck, Code, Evidence, Finding
from proxy.audit.keys import PublicKeys
from proxy.audit.walk import CopyReader
from registry.database.driver import Connection
from registry.database.queries import load

PIECE: Final = 20_000
PAGE: Final = 5_000
MOST_OF_A_PIECE: Final = 1_000
_SQL = load("proxy.audit", "verify.sql")
_ENTRIES: Final = _SQL["entries"].replace("{columns}", ", ".join(STORED_COLUMNS))

Progress = Callable[[int, int], None]
"""Called with entries verified and entries in all."""


@dataclass
class Report:
    """What was verified. `uncovered` entries are behind the last checkpoint: only their chain protects them."""

    entries: int = 0
    writers: int = 0
    checkpoints: int = 0
    unchecked: int = 0
    uncovered: int = 0
    findings: list[Finding] = field(default_factory=list[Finding])

    @property
    def first(self) -> Finding | None:
        """The first bad entry in time; else the first finding."""
        timed = [each for each in self.findings if each.started_at is not None]
        return min(timed, key=_begun) if timed else next(iter(self.findings), None)


async def verify(
    database: Connection,
    keys: PublicKeys,
    file: Iterable[Checkpoint] = (),
    progress: Progress = lambda _done, _all: None,
    most: int = 100,
) -> Report:
    """Verify all chains; keep the first `most` findings. The checkpoints of the file count like those of the table."""
    evidence = Evidence(keys, {(each.statement, each.signature): each for each in file})
    unreadable: list[int] = []
    async for each in stored_checkpoints(database, unreadable):
        evidence.take(each)
    evidence.conclude()
    report = Report(checkpoints=evidence.count, unchecked=evidence.unchecked, findings=evidence.findings[:most])
    report.findings += [
        Finding(Code.BAD_SIGNATURE, f"checkpoint {each} of the table is no statement") for each in unreadable
    ]
    writers = {row["writer_id"]: row for row in await database.fetch(_SQL["writers"])}
    total = sum(row["last_seq"] for row in writers.values())
    for writer in sorted({*writers, *evidence.heads, *evidence.dropped}):
        found = writers.get(writer)
        check = _check(writer, evidence, found)
        async for count, findings in _walk(database, check):
            report.entries += count
            report.findings += findings[: most - len(report.findings)]
            progress(report.entries, total)
        report.writers += 1
        report.uncovered += check.head.seq - min(check.head.seq, max(evidence.heads.get(writer, {}), default=0))
        if found is not None and not found["is_announced"]:
            message = "this chain was never opened by a writer: it was put there, or its opening was removed"
            report.findings.append(Finding(Code.UNANNOUNCED, message, writer))
    return report


async def stored_checkpoints(database: Connection, unreadable: list[int]) -> AsyncGenerator[Checkpoint]:
    """Yield the checkpoints of the table in their order; add the ids of rows that are none to `unreadable`."""
    after = 0
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


async def _walk(database: Connection, check: ChainCheck) -> AsyncGenerator[tuple[int, list[Finding]]]:
    """Yield after each piece how many entries it had, and what is wrong in it."""
    start = 1
    while (begin := await database.fetchval(_SQL["next_seq"], check.writer, start)) is not None:
        start = begin + PIECE
        before = check.entries
        findings = await _feed(database, check, begin, start)
        yield check.entries - before, findings
    yield 0, list(check.finish())


async def _feed(database: Connection, check: ChainCheck, begin: int, end: int) -> list[Finding]:
    """Check the links from number `begin` up to `end` as they come: no more than one entry is held at a time."""
    reader, findings = CopyReader(), list[Finding]()

    async def take(data: bytes) -> None:
        for link in reader.feed(data):
            findings.extend(check.feed(link))
            del findings[MOST_OF_A_PIECE:]

    await cast("Any", database).copy_from_query(_ENTRIES, check.writer, begin, end, output=take, format="binary")
    return findings


def _begun(finding: Finding) -> datetime:
    assert finding.started_at is not None  # noqa: S101  the caller has chosen those that have it
    return finding.started_at
