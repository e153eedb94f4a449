"""Dropping what is old: whole partitions, after a signed statement of what they held (SPEC A7).

A partition holds the requests that started in its period. The numbers of a chain follow commits, so a partition's
entries are several ranges of several chains; the statement names each with the hashes that connect the rest.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg

from proxy.audit.checkpoint import Checkpoint, Dropped, append_to_file, row_of, sign, state_prune
from proxy.audit.errors import AuditStoreError
from proxy.audit.keys import Signer
from proxy.audit.store import record_checkpoint
from proxy.audit.when import parse_span
from registry.database.driver import Connection
from registry.database.queries import load

LEAST_KEPT: Final = timedelta(days=1)
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
    """What was dropped, or why not."""

    period: Period
    rows: int
    refusal: str | None = None
    checkpoint: Checkpoint | None = None


def span_to_keep(text: str) -> timedelta:
    """Read how much is kept; raise ValueError, also for less than a day.

    A request that has no intent may still get its row into a period that has just ended.
    """
    span = parse_span(text)
    if span < LEAST_KEPT:
        raise ValueError(f"at least a day is kept, got {text!r}")
    return span


async def periods_before(database: Connection, cutoff: datetime) -> list[Period]:
    """Return the periods that ended by `cutoff`, oldest first. The default partitions belong to no period."""
    found: dict[tuple[datetime, datetime], list[tuple[str, str]]] = {}
    await database.execute("set timezone = 'UTC'")
    for row in await database.fetch(_SQL["partitions"]):
        bounds = parse_bounds(row["bounds"])
        if bounds is not None and bounds[1] <= cutoff:
            found.setdefault(bounds, []).append((row["parent"], row["name"]))
    return [Period(lower, upper, tuple(sorted(names))) for (lower, upper), names in sorted(found.items())]


async def prune(database: Connection, period: Period, signer: Signer, file: Path | None, now: datetime) -> Pruned:
    """Sign what the period holds and drop its partitions, in one transaction. Raises AuditStoreError.

    A period with open intents is left: their rows are still to come.
    """
    rows = await database.fetchval(_SQL["count"], period.lower, period.upper)
    try:
        async with database.transaction():
            await database.execute(_SQL["patience"])
            if pending := await database.fetchval(_SQL["open_intents"], period.lower, period.upper):
                return Pruned(period, rows, f"{pending} intents have no row yet")
            made = await _sign(database, period, signer, now)
            for parent, name in period.names:
                await database.execute(f'alter table {parent} detach partition "{name}"')
                await database.execute(f'drop table "{name}"')
    except asyncpg.InsufficientPrivilegeError as error:
        raise AuditStoreError(f"only the owner of the tables may prune: {error}") from error
    except asyncpg.LockNotAvailableError:
        return Pruned(period, rows, "somebody reads it; try again")
    if file is not None:
        append_to_file(file, made)
    return Pruned(period, rows, checkpoint=made)


def parse_bounds(expression: str) -> tuple[datetime, datetime] | None:
    """Read PostgreSQL's text of range bounds; None for the default partition."""
    found = _BOUNDS.fullmatch(expression)
    return (datetime.fromisoformat(found[1]), datetime.fromisoformat(found[2])) if found else None


def dropped_ranges(rows: Sequence[Any]) -> tuple[Dropped, ...]:
    return tuple(
        Dropped(str(row["writer_id"]), row["first"], row["last"], row["previous"].hex(), row["hash"].hex())
        for row in rows
    )


async def _sign(database: Connection, period: Period, signer: Signer, now: datetime) -> Checkpoint:
    ranges = dropped_ranges(await database.fetch(_SQL["ranges"], period.lower, period.upper))
    made = sign(state_prune([name for _, name in period.names], ranges, now), signer)
    await record_checkpoint(database, *row_of(made))
    return made
