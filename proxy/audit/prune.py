"""Dropping what is old: whole partitions, after a signed statement of what they held (SPEC A7).

A partition holds the requests that started in its period. The numbers of a chain follow commits, so a partition's
entries are several ranges of several chains; the statement names each with the hashes that connect the rest.
"""

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg

from proxy.audit.chain import Head
from proxy.audit.checkpoint import Checkpoint, Dropped, append_to_file, read_checkpoint, row_of, sign, state_prune
from proxy.audit.errors import AuditStoreError
from proxy.audit.keys import PublicKeys, Signer
from proxy.audit.store import record_checkpoint
from proxy.audit.when import parse_span
from registry.database.driver import Connection
from registry.database.queries import load

LEAST_KEPT: Final = timedelta(days=1)
TRIES: Final = 5
PAGE: Final = 1_000
_BEFORE_ALL: Final = -(2**63)
_SQL = load("proxy.audit", "prune.sql")
_BOUNDS: Final = re.compile(r"FOR VALUES FROM \('([^']+)'\) TO \('([^']+)'\)")


@dataclass(frozen=True, slots=True)
class Period:
    """The partitions of one period, of intents and of rows."""

    lower: datetime
    upper: datetime
    names: tuple[tuple[str, str], ...]

    @property
    def label(self) -> str:
        return f"{self.lower:%Y-%m-%d} to {self.upper:%Y-%m-%d}"


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was dropped, or why not; `heads` are the checkpoints that went with it."""

    period: Period
    rows: int
    refusal: str | None = None
    checkpoint: Checkpoint | None = None
    heads: int = 0


class _KeptError(Exception):
    """Why a period is not dropped after all."""


def span_to_keep(text: str) -> timedelta:
    """Read how much is kept; raise ValueError, also for less than a day.

    A request that has no intent may still get its row into a period that has just ended.
    """
    span = parse_span(text)
    if span < LEAST_KEPT:
        raise ValueError(f"at least a day is kept, got {text!r}")
    return span


async def cutoff(database: Connection, span: timedelta, now: datetime) -> datetime:
    """Return what is kept from: by the earlier of two clocks, because a wrong one must not drop what is young."""
    return min(now, await database.fetchval(_SQL["clock"])) - span


async def periods_before(database: Connection, cutoff: datetime) -> list[Period]:
    """Return the periods that ended by `cutoff`, oldest first. The default partitions belong to no period."""
    found: dict[tuple[datetime, datetime], list[tuple[str, str]]] = {}
    await database.execute(_SQL["plain_dates"])
    for row in await database.fetch(_SQL["partitions"]):
        bounds = parse_bounds(row["bounds"])
        if bounds is not None and bounds[1] <= cutoff:
            found.setdefault(bounds, []).append((row["parent"], row["name"]))
    return [Period(lower, upper, tuple(sorted(names))) for (lower, upper), names in sorted(found.items())]


async def prune(  # noqa: PLR0917  what is pruned, by whom, to where, and when
    database: Connection, period: Period, signer: Signer, keys: PublicKeys, file: Path | None, now: datetime
) -> Pruned:
    """Sign what the period holds and drop its partitions, in one transaction. Raises AuditStoreError.

    With them go the checkpoints that a key of `keys` has signed about entries inside what is dropped: see
    `superfluous_heads`. A period with open intents is left: their rows are still to come.
    """
    rows = await database.fetchval(_SQL["count"], period.lower, period.upper)
    try:
        async with database.transaction():
            await database.execute(_SQL["patience"])
            if pending := await database.fetchval(_SQL["open_intents"], period.lower, period.upper):
                return Pruned(period, rows, f"{pending} intents have no row yet")
            ranges = dropped_ranges(await database.fetch(_SQL["ranges"], period.lower, period.upper))
            heads = await _drop_heads(database, ranges, keys)
            made = sign(state_prune([name for _, name in period.names], ranges, now), signer)
            await record_checkpoint(database, *row_of(made))
            await _keep_out(database)
            await _refuse_late_entries(database, period, ranges)
            for parent, name in period.names:
                await database.execute(f'alter table {parent} detach partition "{name}"')
                await database.execute(f'drop table "{name}"')
    except asyncpg.InsufficientPrivilegeError as error:
        raise AuditStoreError(f"only the owner of the tables may prune: {error}") from error
    except asyncpg.LockNotAvailableError:
        return Pruned(period, rows, "somebody reads it; try again")
    except _KeptError as error:
        return Pruned(period, rows, str(error))
    if file is not None:
        _append(file, made, period)
    return Pruned(period, rows, checkpoint=made, heads=heads)


async def without_period(database: Connection, cutoff: datetime) -> int:
    """Return how many old entries stand in the default partitions, where no prune reaches them."""
    return await database.fetchval(_SQL["without_period"], cutoff)


def parse_bounds(expression: str) -> tuple[datetime, datetime] | None:
    """Read PostgreSQL's text of range bounds; None for the default partition."""
    found = _BOUNDS.fullmatch(expression)
    return (datetime.fromisoformat(found[1]), datetime.fromisoformat(found[2])) if found else None


def dropped_ranges(rows: Sequence[Any]) -> tuple[Dropped, ...]:
    """Return what a statement says of ranges; raise _KeptError where entries are none of a chain."""
    if any(row["writer_id"] is None or row["first"] is None or row["first"] < 1 for row in rows):
        raise _KeptError("entries of it have no place in any chain; run `postern audit verify`")
    return tuple(
        Dropped(str(row["writer_id"]), row["first"], row["last"], row["previous"].hex(), row["hash"].hex())
        for row in rows
    )


def _append(file: Path, made: Checkpoint, period: Period) -> None:
    try:
        append_to_file(file, made)
    except OSError as error:
        message = f"{period.label} is dropped and its statement is in the table, but not in {file}: {error.strerror}"
        raise AuditStoreError(message) from error


async def _drop_heads(database: Connection, ranges: Iterable[Dropped], keys: PublicKeys) -> int:
    """Delete the checkpoints that the dropped ranges make superfluous; return how many."""
    count = 0
    for gone in ranges:
        after, page = _BEFORE_ALL, [None]
        while page:
            page = await database.fetch(_SQL["heads"], UUID(gone.writer), gone.first, gone.last, after, PAGE)
            if found := superfluous_heads(page, gone, keys):
                await database.execute(_SQL["drop_heads"], found)
            count += len(found)
            after = page[-1]["checkpoint_id"] if page else after
    return count


def superfluous_heads(rows: Iterable[Any], gone: Dropped, keys: PublicKeys) -> list[int]:
    """Return the ids of the checkpoints that prove nothing more once a range is dropped; raise _KeptError.

    They speak of an entry before the last of the range, and truly: `verify` compares a range by its ends only. What is
    no true statement of a trusted key stays, and so does the newest of a writer. A trusted one that contradicts its
    entry is evidence, and so is the entry.
    """
    found: list[int] = []
    for row in rows:
        said = _trusted_head(row, gone, keys)
        if said is None:
            continue
        if list(row["hashes"]) != [said.hash]:
            message = "a signed checkpoint has another hash for entry {} of writer {}; run `postern audit verify`"
            raise _KeptError(message.format(said.seq, gone.writer))
        if row["kind"] == "head" and said.seq < gone.last and not row["is_newest"]:
            found.append(row["checkpoint_id"])
    return found


def _trusted_head(row: Any, gone: Dropped, keys: PublicKeys) -> Head | None:
    """Return the entry of the range that a row of audit_checkpoints vouches for."""
    if not keys.approve(row["key_id"], row["statement"], row["signature"]):
        return None
    with suppress(ValueError):
        read = read_checkpoint(row["statement"], row["key_id"], row["signature"])
        if read.head is not None and str(read.writer_id) == gone.writer and gone.first <= read.head.seq <= gone.last:
            return read.head
    return None


async def _keep_out(database: Connection) -> None:
    """Take all locks in one order, writers first: whoever is let in behind them waits before it holds anything.

    No wait is as long as PostgreSQL takes to look for deadlocks, so none is ever found, and nobody else's work ended.
    """
    for left in reversed(range(TRIES)):
        try:
            async with database.transaction():
                await database.execute(_SQL["keep_writers_out"])
                await database.execute(_SQL["keep_readers_out"])
                return
        except asyncpg.LockNotAvailableError:
            if not left:
                raise


async def _refuse_late_entries(database: Connection, period: Period, ranges: Iterable[Dropped]) -> None:
    """Raise _KeptError if entries have come since the ranges were read: behind the last number of a writer, always."""
    signed: dict[UUID, int] = {}
    for gone in ranges:
        signed[UUID(gone.writer)] = max(gone.last, signed.get(UUID(gone.writer), 0))
    for _, name in period.names:
        for row in await database.fetch(_SQL["last_numbers"].replace("{part}", f'"{name}"')):
            if row["last"] > signed.get(row["writer_id"], 0):
                raise _KeptError("it still gets rows; try again")
