"""`gaps`: what was counted or promised, against what is there (SPEC A8)."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, cast
from uuid import UUID

from proxy.audit.checkpoint import Checkpoint
from proxy.audit.verify import stored_checkpoints
from registry.database.driver import Connection, Record
from registry.database.queries import load

_SQL = load("proxy.audit", "gaps.sql")
OLD: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Gap:
    """One thing that does not add up. `is_loss`: something that happened has no row; else it is only told."""

    code: str
    message: str
    is_loss: bool = True


async def find_gaps(database: Connection, now: datetime) -> list[Gap]:
    """Return every gap: numbers, open intents, counters against rows, outages. Looks again if it met a prune."""
    while True:
        prunes = await database.fetchval(_SQL["prunes"])
        found = await _look(database, now)
        if await database.fetchval(_SQL["prunes"]) == prunes:
            return found


async def _look(database: Connection, now: datetime) -> list[Gap]:
    checkpoints = [each async for each in stored_checkpoints(database, [])]
    writers = await database.fetch(_SQL["last_numbers"])
    return [
        *await _numbers(database, checkpoints),
        *_ends(writers, checkpoints),
        *await _intents(database, now),
        *await _counts(database, writers, checkpoints),
        *[gap for row in await database.fetch(_SQL["outages"]) for gap in outage_gaps(row)],
    ]


async def _numbers(database: Connection, checkpoints: Iterable[Checkpoint]) -> list[Gap]:
    pruned: dict[UUID, dict[int, int]] = {}
    for each in checkpoints:
        for gone in each.dropped:
            pruned.setdefault(UUID(gone.writer), {})[gone.first] = gone.last
    return [
        Gap("missing entries", f"writer {row['writer_id']}: entries {first} to {row['last']} are not there")
        for row in await database.fetch(_SQL["missing_numbers"])
        if (first := _behind(pruned.get(row["writer_id"], {}), row["first"])) <= row["last"]
    ]


def _behind(pruned: Mapping[int, int], first: int) -> int:
    """Return the first number from `first` on that no prune accounts for."""
    while (last := pruned.get(first)) is not None:
        first = last + 1
    return first


def _ends(writers: Iterable[Any], checkpoints: Iterable[Checkpoint]) -> list[Gap]:
    vouched: dict[UUID, int] = {}
    for each in checkpoints:
        if each.writer_id is not None and each.head is not None:
            vouched[each.writer_id] = max(each.head.seq, vouched.get(each.writer_id, 0))
        for gone in each.dropped:
            vouched.pop(UUID(gone.writer), None)
    return [
        Gap(
            "missing end", f"writer {row['writer_id']}: a checkpoint vouches for entry {most}, the last is {row['seq']}"
        )
        for row in writers
        if (most := vouched.get(row["writer_id"], 0)) > row["seq"]
    ]


async def _intents(database: Connection, now: datetime) -> list[Gap]:
    return [
        Gap(
            "open intent",
            f"execution {row['execution_id']} ({row['server']} {row['tool'] or row['method']}, {row['subject']}) "
            f"has had no row since {row['started_at'].isoformat()}",
            is_loss=False,
        )
        for row in await database.fetch(_SQL["open_intents"], now - OLD)
    ]


async def _counts(database: Connection, writers: Iterable[Any], checkpoints: Iterable[Checkpoint]) -> list[Gap]:
    """Hold the last signed counters of each writer, or those of its closing, against its rows."""
    claims: dict[UUID, tuple[int, Mapping[str, int]]] = {}
    for row in writers:
        if claim := read_claim(row["closed"]):
            claims[row["writer_id"]] = claim
    pruned = {UUID(gone.writer) for each in checkpoints for gone in each.dropped}
    for each in checkpoints:
        if each.writer_id is not None and (claim := read_claim(each.statement)):
            claims[each.writer_id] = claim
    return [
        gap
        for writer, (seq, counts) in claims.items()
        if writer not in pruned
        for gap in count_gaps(writer, counts, await database.fetchval(_SQL["rows_of"], writer, seq))
    ]


def read_claim(text: str | None) -> tuple[int, Mapping[str, int]] | None:
    """Return the entry up to which a writer has counted, and its counters; None where it says nothing, or rubbish.

    The proxy's role may write what it likes into the tables: nothing of it may end the search.
    """
    said = _read_object(text)
    counts, seq = said.get("counts"), said.get("seq")
    if not isinstance(counts, dict) or not isinstance(seq, int) or not 0 <= seq < 2**63:
        return None
    known = {name: value for name, value in cast("dict[str, object]", counts).items() if isinstance(value, int)}
    return (seq, known) if {"rows", "answered", "unrecorded"} <= known.keys() else None


def _read_object(text: str | None) -> dict[str, Any]:
    said: object = json.loads(text) if text else None
    return cast("dict[str, Any]", said) if isinstance(said, dict) else {}


def count_gaps(writer: UUID, counts: Mapping[str, int], rows: int) -> list[Gap]:
    """Compare what a writer counted up to an entry with the rows that are there up to it."""
    gaps: list[Gap] = []
    if rows != counts["rows"]:
        gaps.append(Gap("row count", f"writer {writer} wrote {counts['rows']} rows, {rows} are there"))
    if counts["answered"] > counts["rows"]:
        message = f"writer {writer}: {counts['answered']} answers left, {counts['rows']} rows were written"
        gaps.append(Gap("answers without rows", message))
    if counts["unrecorded"]:
        message = f"writer {writer}: {counts['unrecorded']} refused requests of an outage found no room to be recorded"
        gaps.append(Gap("unrecorded", message))
    return gaps


def outage_gaps(event: Record) -> list[Gap]:
    """Tell what an outage left: entries that the database lost, rows whose callers were told 503."""
    detail = _read_object(event["detail"])
    gaps: list[Gap] = []
    lost, withheld = detail.get("lost"), detail.get("committed_but_withheld")
    if isinstance(lost, dict):
        span = cast("dict[str, object]", lost)
        message = (
            f"writer {event['writer_id']}: the database lost committed entries {span.get('from')} to {span.get('to')}"
        )
        gaps.append(Gap("lost by the database", f"{message}, before {event['at'].isoformat()}"))
    for execution in cast("list[object]", withheld) if isinstance(withheld, list) else ():
        message = f"execution {execution}: its row was committed, but its caller was told 503"
        gaps.append(Gap("withheld answer", message, is_loss=False))
    return gaps
