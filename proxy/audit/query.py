"""Reading the log: filters, keyset pages, one execution, statistics."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal
from uuid import UUID

from proxy.audit.canonical import microseconds, moment
from registry.database.driver import Connection, Record
from registry.database.queries import load

Source = Literal["audit_log", "audit_metadata"]
GROUPS: Final = ("server", "tool", "method", "subject", "agent", "status", "decision", "instance")
PAGE: Final = 500
_SQL = load("proxy.audit", "query.sql")
_NEAR: Final = 60_000_000
_UNIX: Final = microseconds(datetime.fromtimestamp(0, UTC))


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows; None is any. `decision` also names a family: `authz` is every `authz.…`. since <= started < until."""

    server: str | None = None
    tool: str | None = None
    method: str | None = None
    subject: str | None = None
    agent: str | None = None
    status: tuple[str, ...] | None = None
    decision: str | None = None
    scope: str | None = None
    session: str | None = None
    asserted_by: str | None = None
    trace_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def values(self) -> tuple[object, ...]:
        """Return $1 … $13 of the condition `matches`."""
        return (
            *(self.server, self.tool, self.method, self.subject, self.agent, self.status, self.decision),
            *(self.scope, self.session, self.asserted_by, self.trace_id, self.since, self.until),
        )


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row of a page. As text it is `2026-11-23T03:12:00.000001+00:00,UUID`."""

    started_at: datetime
    execution_id: UUID

    def __str__(self) -> str:
        return f"{self.started_at.isoformat()},{self.execution_id}"

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Read the text form; raise ValueError."""
        started, _, execution = text.partition(",")
        at = datetime.fromisoformat(started)
        if at.tzinfo is None:
            raise ValueError("the time of a cursor has an offset, such as +00:00")
        return cls(at, UUID(execution))

    @classmethod
    def of(cls, row: Record) -> "Cursor":
        return cls(row["started_at"], row["execution_id"])


async def choose_source(database: Connection) -> Source:
    """Return what this role may read: everything, or metadata only."""
    return "audit_log" if await database.fetchval(_SQL["may_see_payloads"]) else "audit_metadata"


async def columns(database: Connection, source: Source) -> list[str]:
    """Return the names of the columns that a row has."""
    return [row["name"] for row in await database.fetch(sql("columns", source))]


async def pages(
    database: Connection, source: Source, wanted: Filter, *, after: Cursor | None = None, oldest_first: bool = False
) -> AsyncGenerator[list[Record]]:
    """Yield page after page; each is one short statement, so that a slow reader holds nothing."""
    statement = sql("oldest_first" if oldest_first else "newest_first", source)
    while True:
        at, execution = (after.started_at, after.execution_id) if after else (None, None)
        page = await database.fetch(statement, *wanted.values(), at, execution, PAGE)
        if page:
            yield page
            after = Cursor.of(page[-1])
        if len(page) < PAGE:
            return


async def find(database: Connection, source: Source, execution: UUID) -> tuple[Record | None, Record | None]:
    """Return intent and row of an execution. The id holds its time, so the right partition is tried first."""
    return (
        await _one(database, "intent", source, execution) if source == "audit_log" else None,
        await _one(database, "one", source, execution),
    )


async def stats(database: Connection, source: Source, wanted: Filter, by: str, limit: int) -> list[Record]:
    """Return counts and durations grouped by one of GROUPS."""
    if by not in GROUPS:
        raise ValueError(f"not one of {', '.join(GROUPS)}: {by}")
    statement = sql("stats", source).replace("{by}", by)
    return await database.fetch(statement, *wanted.values(), limit)


def sql(name: str, source: Source) -> str:
    """Return a statement of query.sql with its constants filled in."""
    return _SQL[name].replace("{source}", source).replace("{matches}", _SQL["matches"])


async def _one(database: Connection, name: str, source: Source, execution: UUID) -> Record | None:
    if execution.version == 7:
        begun = (execution.int >> 80) * 1000 + _UNIX
        found = await database.fetchrow(sql(name, source), execution, moment(begun - _NEAR), moment(begun + _NEAR))
        if found is not None:
            return found
    return await database.fetchrow(sql(f"{name}_anywhere", source), execution)
