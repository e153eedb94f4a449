"""`postern audit`: the auditor's tools (SPEC A8). Tables on a terminal, JSON lines in a pipe.

Exit codes: 0 fine, 1 findings, 2 usage, 3 cannot start.
"""

import asyncio
import sys
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Final, cast
from uuid import UUID

import asyncpg
import click

from proxy.audit import render
from proxy.audit.export import Format, MissingExtraError, export, format_of, replacing
from proxy.audit.integrity_cli import gaps, prune, verify
from proxy.audit.options import EXIT_FINDINGS, Access, console, filters, runs, stop
from proxy.audit.query import GROUPS, Cursor, Filter, choose_source, columns, find, pages, stats
from proxy.audit.tail import Tail
from registry.database.driver import Record
from registry.database.errors import DatabaseError

AGAIN_S: Final = 1.0
LOST: Final = (DatabaseError, ConnectionError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


@click.group("audit")
@click.option(
    "--dsn", envvar="DATABASE_URL", help="PostgreSQL address; default $DATABASE_URL, then the state directory."
)
@click.option("--state-dir", envvar="POSTERN_STATE_DIR", default=".postern", type=click.Path(path_type=Path))
@click.pass_context
def command(ctx: click.Context, dsn: str | None, state_dir: Path) -> None:
    """Query, follow, verify and export the audit log.

    A role without access to payloads (postern_operator) sees metadata only.
    """
    ctx.obj = Access(dsn, state_dir)


command.add_command(verify)
command.add_command(gaps)
command.add_command(prune)
_JSON = click.option("--json/--table", "as_json", default=None, help="Default: a table on a terminal, else JSON lines.")


@command.command("query")
@filters
@click.option("--limit", "-n", default=50, show_default=True, type=click.IntRange(1), help="Most rows.")
@click.option("--all", "unlimited", is_flag=True, help="Every row, as long as it takes.")
@click.option("--oldest-first", is_flag=True)
@click.option("--after", "cursor", help="Go on behind this row; printed by the page before.")
@_JSON
@click.pass_obj
@runs
async def query_command(
    access: Access,
    wanted: Filter,
    *,
    limit: int,
    unlimited: bool,
    oldest_first: bool,
    cursor: str | None,
    as_json: bool | None,
) -> None:
    """List requests, newest first."""
    after = _cursor(cursor)
    async with access.opened() as database:
        source = await choose_source(database)
        found = pages(database, source, wanted, after=after, oldest_first=oldest_first)
        most = None if unlimited else limit
        if _wants_json(as_json):
            async for row in _first(found, most):
                click.echo(render.json_line(row))
            return
        rows = [row async for row in _first(found, most)]
        printer = console()
        printer.print(render.overview(rows, printer.width) if rows else "no such request")
        if most is not None and len(rows) == most:
            click.echo(f"more: --after {Cursor.of(rows[-1])}", err=True)


@command.command("show")
@click.argument("execution", type=click.UUID)
@_JSON
@click.pass_obj
@runs
async def show_command(access: Access, execution: UUID, *, as_json: bool | None) -> None:
    """Show one request in full."""
    async with access.opened() as database:
        intent, row = await find(database, await choose_source(database), execution)
    if row is None and intent is None:
        stop(f"no request has the execution id {execution}", EXIT_FINDINGS)
    if row is None:
        click.echo("still open: the intent is there, the row is not", err=True)
    shown = cast("Record", row or intent)
    if _wants_json(as_json):
        click.echo(render.json_line(shown))
    else:
        console().print(render.in_full(shown, intent))


@command.command("tail")
@filters
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes.")
@click.option("--lines", "-n", default=10, show_default=True, type=click.IntRange(0), help="How many old rows first.")
@click.option("--interval", default=0.5, show_default=True, type=click.FloatRange(0.05), help="Seconds between looks.")
@_JSON
@click.pass_obj
@runs
async def tail_command(
    access: Access, wanted: Filter, *, follow: bool, lines: int, interval: float, as_json: bool | None
) -> None:
    """Show the newest requests, oldest first; with -f every one that follows, none left out, over restarts too."""
    as_json = _wants_json(as_json)
    async with access.opened() as database:
        tail = Tail(await choose_source(database), wanted)
        _print_lines(await tail.start(database, lines), as_json=as_json)
    while follow:
        try:
            async with access.opened() as database:
                while True:
                    _print_lines(await tail.advance(database), as_json=as_json)
                    await asyncio.sleep(interval)
        except LOST as error:
            click.echo(f"the database is away, trying again: {error}", err=True)
            await asyncio.sleep(AGAIN_S)


@command.command("stats")
@filters
@click.option("--by", type=click.Choice(GROUPS), default="server", show_default=True)
@click.option("--limit", "-n", default=100, show_default=True, type=click.IntRange(1))
@_JSON
@click.pass_obj
@runs
async def stats_command(access: Access, wanted: Filter, *, by: str, limit: int, as_json: bool | None) -> None:
    """Count requests and their durations; OWN P50 is the part that Postern itself took."""
    async with access.opened() as database:
        rows = await stats(database, await choose_source(database), wanted, by, limit)
    if _wants_json(as_json):
        for row in rows:
            click.echo(render.json_line(row))
    else:
        console().print(render.figures(rows, by))


@command.command("export")
@filters
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="File; default standard output.")
@click.option("--format", "kind", type=click.Choice(["jsonl", "csv", "parquet"]), help="Default: by the file's name.")
@click.pass_obj
@runs
async def export_command(access: Access, wanted: Filter, *, output: Path | None, kind: Format | None) -> None:
    """Write rows to a file, oldest first: JSON lines, CSV or Parquet."""
    chosen = kind or format_of(output)
    if chosen == "parquet" and output is None:
        stop("Parquet needs --output", code=2)
    async with access.opened() as database:
        source = await choose_source(database)
        found, names = pages(database, source, wanted, oldest_first=True), await columns(database, source)
        try:
            with nullcontext(sys.stdout.buffer) if output is None else replacing(output) as out:
                total = await export(found, names, chosen, out, _counter())
        except MissingExtraError as error:
            stop(str(error))
    click.echo(f"{total} rows", err=True)


def _wants_json(as_json: bool | None) -> bool:
    return not sys.stdout.isatty() if as_json is None else as_json


def _print_lines(rows: Sequence[Record], *, as_json: bool) -> None:
    printer = console()
    for row in rows:
        if as_json:
            click.echo(render.json_line(row))
        else:
            printer.print(render.line(row), soft_wrap=True)
    sys.stdout.flush()


def _cursor(text: str | None) -> Cursor | None:
    try:
        return Cursor.parse(text) if text else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--after") from error


async def _first(found: AsyncIterable[Sequence[Record]], most: int | None) -> AsyncIterator[Record]:
    """Yield the first rows of the pages."""
    left = most
    async for page in found:
        for row in page:
            if left == 0:
                return
            left = left - 1 if left is not None else None
            yield row


class _counter:  # noqa: N801  a callable, named for what it does
    """Shows a growing number on a terminal."""

    def __init__(self) -> None:
        self._shown = 0

    def __call__(self, total: int) -> None:
        if sys.stderr.isatty() and total - self._shown >= 10_000:
            self._shown = total
            click.echo(f"\r{total} rows", nl=False, err=True)
