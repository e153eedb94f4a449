"""Checking one writer's chain, link by link, against itself and against signed checkpoints. Pure (SPEC A6)."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from proxy.audit.chain import Head, genesis
from proxy.audit.checkpoint import Checkpoint, Dropped
from proxy.audit.keys import PublicKeys
from proxy.audit.walk import Link


class Code(StrEnum):
    """What verification can find."""

    ALTERED = "altered"
    REMOVED = "removed"
    INSERTED = "inserted"
    UNLINKED = "unlinked"
    TRUNCATED = "truncated"
    REWRITTEN = "rewritten"
    UNANNOUNCED = "unannounced"
    HIDDEN = "hidden"
    BAD_SIGNATURE = "bad signature"
    CHECKPOINT_REMOVED = "checkpoint removed"
    BAD_PRUNE = "bad prune"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: which writer and entry, and how. `writer` is None for what concerns no single chain."""

    code: Code
    message: str
    writer: UUID | None = None
    seq: int | None = None
    kind: str | None = None
    execution_id: UUID | None = None
    started_at: datetime | None = None


@dataclass
class Listing:
    """Findings as they come: the first `most` of each code, so that many of one kind hide no other; `found` counts all.

    `first` is the first bad entry in time, of all that were found; else the first finding.
    """

    most: int = 100
    found: int = 0
    first: Finding | None = None
    findings: list[Finding] = field(default_factory=list[Finding])
    _listed: Counter[Code] = field(default_factory=Counter[Code])

    def add(self, findings: Iterable[Finding]) -> None:
        for each in findings:
            self.found += 1
            self._take(each)

    def join(self, other: "Listing") -> None:
        """Add what another listing has found."""
        if other.first is not None:
            self._weigh(other.first)
        for each in other.findings:
            self._take(each)
        self.found += other.found

    def _weigh(self, finding: Finding) -> None:
        if self.first is None or _is_before(finding, self.first):
            self.first = finding

    def _take(self, finding: Finding) -> None:
        self._weigh(finding)
        if self._listed[finding.code] < self.most:
            self._listed[finding.code] += 1
            self.findings.append(finding)


def _is_before(one: Finding, other: Finding) -> bool:
    if one.started_at is None:
        return False
    return other.started_at is None or one.started_at < other.started_at


@dataclass
class ChainCheck:
    """Feed it every link of a writer in order of seq. It goes on after a finding, from what it then sees."""

    writer: UUID
    heads: Mapping[int, bytes]
    dropped: Mapping[int, Dropped]
    entries: int = 0

    def __post_init__(self) -> None:
        self._head = genesis(self.writer)

    @property
    def head(self) -> Head:
        return self._head

    @property
    def pruned(self) -> int:
        """The last entry that a prune has dropped."""
        return max((gone.last for gone in self.dropped.values()), default=0)

    def feed(self, link: Link) -> Iterator[Finding]:
        """Yield what is wrong with this link, or with what should be before it."""
        yield from self._skip_dropped(link.seq)
        expected = self._head.seq + 1
        self.entries += 1
        if link.seq > expected:
            yield self._at(link, Code.REMOVED, f"{_span(expected, link.seq - 1)} missing before it")
        elif link.seq < expected:
            yield self._at(link, Code.INSERTED, f"a second entry with number {link.seq}")
        elif link.prev_hash != self._head.hash:
            yield self._at(link, Code.UNLINKED, f"it does not follow entry {expected - 1}: one of the two was replaced")
        if link.computed != link.row_hash:
            yield self._at(link, Code.ALTERED, "its contents do not have its hash")
        signed = self.heads.get(link.seq)
        if signed is not None and signed != link.row_hash:
            yield self._at(link, Code.REWRITTEN, "a signed checkpoint has another hash for this entry")
        self._head = Head(link.seq, link.row_hash)

    def finish(self) -> Iterator[Finding]:
        """Yield what is missing at the end."""
        last = max(self.pruned, max(self.heads, default=0))
        yield from self._skip_dropped(last + 1)
        if last > self._head.seq:
            message = f"{_span(self._head.seq + 1, last)} missing at the end; a checkpoint vouches for entry {last}"
            yield Finding(Code.TRUNCATED, message, self.writer, self._head.seq + 1)

    def _skip_dropped(self, before: int) -> Iterator[Finding]:
        """Step over ranges that a prune has dropped, as long as they connect."""
        while (gone := self.dropped.get(self._head.seq + 1)) is not None and gone.first < before:
            if bytes.fromhex(gone.previous) != self._head.hash:
                message = f"the prune of {_span(gone.first, gone.last)} does not connect to entry {gone.first - 1}"
                yield Finding(Code.BAD_PRUNE, message, self.writer, gone.first)
            self._head = Head(gone.last, bytes.fromhex(gone.hash))
            signed = self.heads.get(gone.last)
            if signed is not None and signed != self._head.hash:
                message = f"a signed checkpoint has another hash for entry {gone.last}"
                yield Finding(Code.BAD_PRUNE, message, self.writer, gone.last)

    def _at(self, link: Link, code: Code, message: str) -> Finding:
        return Finding(code, message, self.writer, link.seq, link.kind, link.execution_id, link.started_at)


@dataclass
class Evidence:
    """What the signed statements say, table and file together: of each only what its entry's hash is compared with.

    Give it the checkpoints of the table as they come, then `conclude`. Without any key the statements are taken as they
    are, and counted as unchecked. `outside` are the checkpoints of the file that were not met in the table yet.
    """

    keys: PublicKeys
    outside: dict[tuple[str, bytes], Checkpoint] = field(default_factory=dict[tuple[str, bytes], Checkpoint])
    heads: dict[UUID, dict[int, bytes]] = field(default_factory=dict[UUID, dict[int, bytes]])
    dropped: dict[UUID, dict[int, Dropped]] = field(default_factory=dict[UUID, dict[int, Dropped]])
    findings: list[Finding] = field(default_factory=list[Finding])
    count: int = 0
    unchecked: int = 0

    def take(self, stored: Checkpoint) -> None:
        """Take a checkpoint of the table."""
        self.outside.pop((stored.statement, stored.signature), None)
        _take(self, stored, self.keys)

    def learn_prune(self, stored: Checkpoint) -> None:
        """Take what a prune of the table has dropped, if it can be trusted; nothing new where it is known already."""
        if not self.keys or self.keys.approve(stored.key_id, stored.statement, stored.signature):
            _take_dropped(self, stored)

    def conclude(self) -> None:
        """Take what only the file has: removed from the table or altered there, unless a prune has dropped it."""
        for checkpoint in sorted(self.outside.values(), key=lambda each: each.kind != "prune"):
            if not self._is_superfluous(checkpoint):
                message = f"the checkpoint of {checkpoint.at.isoformat()} is in the file but not in the table"
                seq = checkpoint.head.seq if checkpoint.head else None
                self.findings.append(Finding(Code.CHECKPOINT_REMOVED, message, checkpoint.writer_id, seq))
            _take(self, checkpoint, self.keys)

    def _is_superfluous(self, checkpoint: Checkpoint) -> bool:
        """Whether it speaks of an entry inside a pruned range: there is nothing left that it could be held against."""
        if checkpoint.kind != "head" or checkpoint.writer_id is None or checkpoint.head is None:
            return False
        seq = checkpoint.head.seq
        return any(gone.first <= seq < gone.last for gone in self.dropped.get(checkpoint.writer_id, {}).values())


def weigh(table: Iterable[Checkpoint], file: Iterable[Checkpoint], keys: PublicKeys) -> Evidence:
    """Collect what the statements of table and file say, as far as they can be trusted."""
    evidence = Evidence(keys, {(each.statement, each.signature): each for each in file})
    for checkpoint in table:
        evidence.take(checkpoint)
    evidence.conclude()
    return evidence


def _take(evidence: Evidence, checkpoint: Checkpoint, keys: PublicKeys) -> None:
    evidence.count += 1
    if not keys:
        evidence.unchecked += 1
    elif not keys.approve(checkpoint.key_id, checkpoint.statement, checkpoint.signature):
        why = "its signature is wrong" if keys.knows(checkpoint.key_id) else f"key {checkpoint.key_id} is not trusted"
        message = f"the checkpoint of {checkpoint.at.isoformat()} proves nothing: {why}"
        seq = checkpoint.head.seq if checkpoint.head else None
        evidence.findings.append(Finding(Code.BAD_SIGNATURE, message, checkpoint.writer_id, seq))
        return
    if checkpoint.writer_id is not None and checkpoint.head is not None:
        seq, said = checkpoint.head.seq, checkpoint.head.hash
        if evidence.heads.setdefault(checkpoint.writer_id, {}).setdefault(seq, said) != said:
            message = (
                f"two signed checkpoints have different hashes for it, the later one of {checkpoint.at.isoformat()}"
            )
            evidence.findings.append(Finding(Code.REWRITTEN, message, checkpoint.writer_id, seq))
    _take_dropped(evidence, checkpoint)


def _take_dropped(evidence: Evidence, checkpoint: Checkpoint) -> None:
    for gone in checkpoint.dropped:
        evidence.dropped.setdefault(UUID(gone.writer), {})[gone.first] = gone


def describe(finding: Finding) -> str:
    """Return a finding as one line: `altered: writer … entry 17 (row, execution …, …): …`."""
    parts = [f"writer {finding.writer}"] if finding.writer else []
    if finding.seq is not None:
        parts.append(f"entry {finding.seq}")
    if finding.execution_id is not None and finding.started_at is not None:
        parts.append(f"({finding.kind} of execution {finding.execution_id}, {finding.started_at.isoformat()})")
    where = f" {' '.join(parts)}:" if parts else ""
    return f"{finding.code}:{where} {finding.message}"


def _span(first: int, last: int) -> str:
    return f"entry {first} is" if first == last else f"entries {first} to {last} are"


ALL_CODES: Final = tuple(Code)
