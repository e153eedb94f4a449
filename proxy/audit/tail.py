"""Following the log without losing a row, however commits overtake each other.

A global number or a timestamp cannot be followed: rows become visible in another order than they were numbered. Each
writer's rows do become visible in the order of its chain, so the tail remembers one position per writer. Writers are
looked up anew at every turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from proxy.audit.query import Filter, Source, sql
from registry.database.driver import Connection, Record

MOST_A_TURN: Final = 5_000


@dataclass
class Tail:
    """Positions per writer. `start` sets them to the end of now, `advance` returns what came since, in turns."""

    source: Source
    wanted: Filter
    most: int = MOST_A_TURN
    _seen: dict[UUID, int] = field(default_factory=dict[UUID, int])

    async def start(self, database: Connection, last: int) -> list[Record]:
        """Return up to `last` newest matching rows, oldest first; the tail goes on right behind them."""
        async with database.transaction(isolation="repeatable_read", readonly=True):
            self._seen = await self._heads(database)
            newest = sql("newest_first", self.source)
            rows = await database.fetch(newest, *self.wanted.values(), None, None, last) if last else []
        return rows[::-1]

    async def advance(self, database: Connection) -> Sequence[Record]:
        """Return matching rows that became visible since the last turn, in the order of their completion.

        Of each writer at most `most` numbers are passed at a time: the rest, after a long absence, comes next time.
        """
        async with database.transaction(isolation="repeatable_read", readonly=True):
            heads = await self._heads(database)
            seen = {writer: self._seen.get(writer, 0) for writer in heads}
            moved = {w: min(seq, seen[w] + self.most) for w, seq in heads.items() if seq > seen[w]}
            if not moved:
                return ()
            positions = [seen[writer] for writer in moved]
            rows = await database.fetch(
                sql("tail", self.source), *self.wanted.values(), list(moved), positions, list(moved.values())
            )
        self._seen.update(moved)
        return rows

    async def _heads(self, database: Connection) -> dict[UUID, int]:
        """Return the last row of every writer that is open, was opened of late, or is being followed."""
        found = await database.fetch(sql("tail_heads", self.source), list(self._seen))
        return {row["writer_id"]: row["seq"] for row in found}
