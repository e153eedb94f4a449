"""The tables that servers declare, checked against PostgreSQL at boot and at each reload (SPEC C4).

`strict` stops the boot and refuses the reload, `warn` tells, `skip` is for tests. A missing table is created where the
registry says how, with the rights of the database's user and nobody else's.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import asyncpg

from registry.database import queries
from registry.database.driver import Connection
from registry.database.errors import DatabaseError, DatabaseUnavailable
from registry.database.pool import connection, is_connection_error
from registry.models import Fleet, Server, Table

CHECK_S: Final = 10.0
_COLUMN = re.compile(r"(?P<type>.+?)(?P<not_null>\s+not\s+null)?", re.IGNORECASE | re.DOTALL)
_MODIFIER = re.compile(r"\(.*?\)")
_NAME = re.compile(r'(?:[A-Za-z_][\w$]*|"[^"\0]+")(?:\.(?:[A-Za-z_][\w$]*|"[^"\0]+"))?')
_log = logging.getLogger("postern.tables")
_SQL = queries.load("registry.database", "tables.sql")
State = Literal["validated", "created", "error", "skipped"]
Resolve = Callable[[str], str]


class TablesError(DatabaseError):
    """A table that `strict` wants is not as declared; the message is the whole report."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One declared table: what became of it, and why it is not as declared."""

    server: str
    table: str
    mode: str
    state: State
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TablesReport:
    """All of them. `halts` holds what stops a boot."""

    findings: tuple[Finding, ...] = ()

    def of(self, state: State) -> tuple[Finding, ...]:
        """Return the tables in one state."""
        return tuple(finding for finding in self.findings if finding.state == state)

    @property
    def halts(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.of("error") if finding.mode == "strict")

    def lines(self) -> list[str]:
        """Return the report: what was validated, created and wrong."""
        states: tuple[State, ...] = ("validated", "created", "error")
        counts = ", ".join(f"{len(self.of(state))} {state}" for state in states)
        wrong = [f"  {each.server}: table {each.table} ({each.mode}): {each.reason}" for each in self.of("error")]
        return [f"declared tables: {counts}", *wrong]


async def check_tables(fleet: Fleet, dsn: str, resolve: Resolve) -> TablesReport:
    """Check every declared table of every enabled server; `resolve` turns a `database:` reference into its address."""
    wanted: dict[str | None, list[tuple[Server, Table]]] = {}
    findings: list[Finding] = []
    for server in fleet.enabled_servers():
        for table in server.tables:
            if table.mode == "skip":
                findings.append(Finding(server.name, table.name, "skip", "skipped"))
            else:
                wanted.setdefault(table.database, []).append((server, table))
    for database, tables in wanted.items():
        findings += await _check_database(dsn if database is None else resolve(database), tables)
    return TablesReport(tuple(findings))


async def require_tables(fleet: Fleet, dsn: str, resolve: Resolve) -> TablesReport:
    """Check, log the report, and raise `TablesError` with it where it stops the boot, or refuses the reload."""
    report = await check_tables(fleet, dsn, resolve)
    for line in report.lines() if report.findings else ():
        _log.log(logging.WARNING if report.of("error") else logging.INFO, "%s", line)
    if report.halts:
        raise TablesError("\n".join([*report.lines(), "mend the tables or the declaration"]))
    return report


async def _check_database(dsn: str, tables: Sequence[tuple[Server, Table]]) -> list[Finding]:
    try:
        async with connection(dsn, timeout_s=CHECK_S, application_name="postern tables") as lent:
            return [await _check(lent, server, table) for server, table in tables]
    except DatabaseUnavailable as error:
        return [Finding(server.name, table.name, table.mode, "error", str(error)) for server, table in tables]


async def _check(lent: Connection, server: Server, table: Table) -> Finding:
    state: State = "validated"
    try:
        found = await _find(lent, table.name)
        if found is None and table.create is not None:
            found, state = await _create(lent, table.name, table.create)
        wrong = "it does not exist" if found is None else await _difference(lent, found, table.columns)
    except TimeoutError:
        wrong = f"PostgreSQL did not answer within {CHECK_S:g} s"
    except asyncpg.InsufficientPrivilegeError as error:
        wrong = f"{error}; give it a `database:` whose user may do that"
    except (asyncpg.PostgresError, ValueError) as error:
        if is_connection_error(error):
            raise
        wrong = str(error) or type(error).__name__
    return Finding(server.name, table.name, table.mode, "error" if wrong else state, wrong or "")


async def _create(lent: Connection, name: str, statement: str) -> tuple[int | None, State]:
    """Make a missing table whole or not at all: of the workers and replicas that want to, one does, others find it."""
    async with lent.transaction():
        await lent.execute(_SQL["alone"], timeout=CHECK_S)
        if (found := await _find(lent, name)) is not None:
            return found, "validated"
        await lent.execute(statement, timeout=CHECK_S)
        return await _find(lent, name), "created"


async def _find(lent: Connection, name: str) -> int | None:
    if _NAME.fullmatch(name) is None:
        raise ValueError("its name is no table name: write `table` or `schema.table`")
    row = await lent.fetchrow(_SQL["table"], name, timeout=CHECK_S)
    return row["oid"] if row is not None else None


async def _difference(lent: Connection, table: int, declared: Mapping[str, str]) -> str | None:
    """Say how the columns differ from the declared ones; columns beyond those are the server's own affair."""
    rows = await lent.fetch(_SQL["columns"], table, timeout=CHECK_S)
    there = {row["name"]: row for row in rows}
    wrong: list[str] = []
    for name, declaration in declared.items():
        row = there.get(name)
        if row is None:
            wrong.append(f"column {name} does not exist")
            continue
        parts = _COLUMN.fullmatch(declaration.strip())
        kind = parts["type"].strip() if parts is not None else ""
        if not await _is_type(lent, kind, row["type"], row["modifier"]):
            wrong.append(f"column {name} is {row['shown']}, not {kind or 'a type'}")
        elif parts is not None and parts["not_null"] and not row["not_null"]:
            wrong.append(f"column {name} may be null")
    return "; ".join(wrong) or None


async def _is_type(lent: Connection, declared: str, found: int, modifier: str) -> bool:
    """Whether a declared type is the column's; a length or precision counts where it is declared."""
    wanted = _MODIFIER.search(declared)
    try:
        row = await lent.fetchrow(_SQL["type"], _MODIFIER.sub("", declared), timeout=CHECK_S)
    except asyncpg.PostgresSyntaxError:
        return False
    if row is None or row["type"] != found:
        return False
    return wanted is None or wanted.group().replace(" ", "") == modifier.replace(" ", "")
