"""`verify`: every chain from its genesis to its end, in pieces, flat in memory (SPEC A6)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, cast
from uuid import UUID

from proxy.audit.chain import STORED_COLUMNS
from proxy.audit.checkpoint import Checkpoint, read_checkpoint
from proxy.audit.findings import ChainCheck, Code, Evidence, Finding, weigh
from proxy.audit.keys import PublicKeys
from proxy.audit.walk import CopyReader
from registry.database.driver import Connection
from registry.database.queries import load

PIECE: Final = 20_000
_SQL = load("proxy.audit", "verify.sql")
_ENTRIES: Final = _SQL["entries"].replace("{columns}", ", ".join(STORED_COLUMNS))

Progress = Callable[[int, int], None]
"""Called with entries verified and entries in all."""


@dataclass
class Report:
    """What was verified. `uncovered` entries lie behind the last checkpoint of their writer: only the chain protects them."""

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
    evidence = weigh(await stored_checkpoints(database), file, keys)
    report = Report(checkpoints=evidence.count, unchecked=evidence.unchecked, findings=evidence.findings[:most])
    writers = {row["writer_id"]: row for row in await database.fetch(_SQL["writers"])}
    total = sum(row["last_seq"] for row in writers.values())
    for writer in sorted({*writers, *evidence.heads, *evidence.dropped}):
        found = writers.get(writer)
        check = _check(writer, evidence, found)
        await _walk(database, check, report, progress, total, most)
        report.writers += 1
        report.uncovered += check.head.seq - min(check.head.seq, max(evidence.heads.get(writer, {}), default=0))
        if found is not None and not found["is_announced"]:
            message = "this chain was never opened by a writer: it was put there, or its opening was removed"
            report.findings.append(Finding(Code.UNANNOUNCED, message, writer))
    return report


async def stored_checkpoints(database: Connection) -> list[Checkpoint]:
    """Return the checkpoints of the table."""
    rows = await database.fetch(_SQL["checkpoints"])
    return [read_checkpoint(row["statement"], row["key_id"], row["signature"]) for row in rows]


def _check(writer: UUID, evidence: Evidence, found: Any) -> ChainCheck:
    heads = dict(evidence.heads.get(writer, {}))
    if found is not None and found["closed_seq"]:
        heads.setdefault(found["closed_seq"], found["closed_hash"])
    return ChainCheck(writer, heads, evidence.dropped.get(writer, {}))


async def _walk(
    database: Connection, check: ChainCheck, report: Report, progress: Progress, total: int, most: int
) -> None:
    after, more = 0, True
    while more:
        before = check.entries
        async for link in _links(database, check.writer, after):
            after = link.seq
            for finding in check.feed(link):
                if len(report.findings) < most:
                    report.findings.append(finding)
        more = check.entries - before >= PIECE
        report.entries += check.entries - before
        progress(report.entries, total)
    report.findings += list(check.finish())


async def _links(database: Connection, writer: UUID, after: int) -> Any:
    """Yield up to PIECE links behind a number."""
    reader = CopyReader()
    pieces: list[bytes] = []

    async def take(data: bytes) -> None:
        pieces.append(data)

    await cast("Any", database).copy_from_query(_ENTRIES, writer, after, PIECE, output=take, format="binary")
    for piece in pieces:
        for link in reader.feed(piece):
            yield link


def _begun(finding: Finding) -> datetime:
    assert finding.started_at is not None  # noqa: S101  the caller has chosen those that have it
    return finding.started_at
