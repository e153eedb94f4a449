"""`postern session`: which legacy sessions there are, and their end (SPEC S4). A table on a terminal, else JSON lines.

Exit codes: 0 fine, 1 no such session, 2 usage, 3 cannot start.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, ParamSpec

import asyncpg
import click
from rich.console import Console
from rich.table import Table

from registry.database import queries
from registry.database.driver import Record
from registry.database.errors import DatabaseError
from registry.database.pool import connection
from registry.output import end_if_output_is_full, end_if_reader_left

P = ParamSpec("P")
EXIT_NOT_FOUND = 1
EXIT_CANNOT_START = 3
_READERS = ("operator", "auditor", "proxy", "owner")
_WRITERS = ("proxy", "owner")
_HEADERS = ("ID, SERVER", "WHO, CLIENT", "STATUS", "ACTIVE, UNTIL (UTC)")
_CELLS = ("{id}\n{server}", "{subject}\n{client}", "{status}", "{last_activity}\n{expires}")


@dataclass(frozen=True, slots=True)
class Access:
    """Where the sessions are. The address may hold a password and is not part of the repr."""

    dsn: str | None
    state_dir: Path

    def __repr__(self) -> str:
        return f"Access(state_dir={str(self.state_dir)!r})"

    def address(self, roles: Sequence[str]) -> str:
        """Return the address: as given, or of the first of the roles that the state directory knows."""
        if self.dsn:
            return self.dsn
        for role in roles:
            file = self.state_dir / f"dsn-{role}"
            if os.access(file, os.R_OK):
                return file.read_text(encoding="utf-8").strip()
        return stop(
            "no database: give --dsn or $DATABASE_URL, or run where `postern up` keeps its state "
            f"(no readable dsn-{roles[0]} in {self.state_dir})"
        )

    async def ask(self, roles: Sequence[str], statement: str, *arguments: object) -> list[Record]:
        """Run one statement on a connection of its own."""
        sql = queries.load("proxy.sessions", "store.sql")
        async with connection(self.address(roles), application_name="postern session") as database:
            return await database.fetch(sql[statement], *arguments)


def stop(message: str, code: int = EXIT_CANNOT_START) -> NoReturn:
    """Say why, and end."""
    click.echo(f"postern session: {message}", err=True)
    sys.exit(code)


def runs(work: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a coroutine as a command; what an operator can mend becomes one line, not a traceback."""

    @wraps(work)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            asyncio.run(work(*args, **kwargs))
        except DatabaseError as error:
            stop(str(error))
        except asyncpg.UndefinedTableError:
            stop("the database has no sessions table: run `postern migrate`")
        except asyncpg.InsufficientPrivilegeError as error:
            stop(f"this role may not do that: {error}; give the address of the proxy's or the owner's role with --dsn")
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            end_if_reader_left(error)
            end_if_output_is_full(error)
            stop(f"the database failed: {error}")

    return command


_JSON = click.option("--json/--table", "as_json", default=None, help="Default: a table on a terminal, else JSON lines.")
_SERVER = click.option("--server", help="Only sessions on this server.")
_SUBJECT = click.option("--subject", "--principal", "subject", help="Only sessions of this subject.")
_CLIENT = click.option("--client", help="Only sessions of this OAuth client.")


@click.group("session")
@click.option(
    "--dsn", envvar="DATABASE_URL", help="PostgreSQL address; default $DATABASE_URL, then the state directory."
)
@click.option("--state-dir", envvar="POSTERN_STATE_DIR", default=".postern", type=click.Path(path_type=Path))
@click.pass_context
def command(ctx: click.Context, dsn: str | None, state_dir: Path) -> None:
    """List and revoke sessions of the handshake era; the 2026-07-28 protocol has none."""
    ctx.obj = Access(dsn, state_dir)


@command.command("list")
@_SERVER
@_SUBJECT
@_CLIENT
@click.option("--all", "with_ended", is_flag=True, help="Ended ones, too; they are kept for a day.")
@click.option("--limit", "-n", default=100, show_default=True, type=click.IntRange(1), help="Most sessions.")
@_JSON
@click.pass_obj
@runs
async def list_command(
    access: Access,
    *,
    server: str | None,
    subject: str | None,
    client: str | None,
    with_ended: bool,
    limit: int,
    as_json: bool | None,
) -> None:
    """List sessions, last used first."""
    rows = await access.ask(_READERS, "list_sessions", server, subject, client, with_ended, limit)
    if _wants_json(as_json):
        for row in rows:
            click.echo(_json(row))
    elif rows:
        _print_table(rows)
    else:
        click.echo("no such session", err=True)


@command.command("show")
@click.argument("session_id", metavar="ID")
@_JSON
@click.pass_obj
@runs
async def show_command(access: Access, session_id: str, *, as_json: bool | None) -> None:
    """Show one session. What was asked in it: `postern audit query --session ID`."""
    rows = await access.ask(_READERS, "show_session", session_id)
    if not rows:
        stop(f"there is no session {session_id}", EXIT_NOT_FOUND)
    if _wants_json(as_json):
        click.echo(_json(rows[0]))
        return
    for name, value in rows[0].items():
        click.echo(f"{name:17} {_text(value)}")


@command.command("revoke")
@click.argument("session_ids", metavar="[ID]...", nargs=-1)
@_SERVER
@_SUBJECT
@_CLIENT
@click.option("--all", "everything", is_flag=True, help="Every open session.")
@_JSON
@click.pass_obj
@runs
async def revoke_command(
    access: Access,
    session_ids: tuple[str, ...],
    *,
    server: str | None,
    subject: str | None,
    client: str | None,
    everything: bool,
    as_json: bool | None,
) -> None:
    """End sessions now, in every replica: their streams close and their ids are unknown from then on.

    The client's token stays what it is; it can initialize again.
    """
    if not (session_ids or server or subject or client or everything):
        stop("which? name sessions, or give --server, --subject, --client or --all", code=2)
    rows = await access.ask(_WRITERS, "revoke_sessions", list(session_ids) or None, server, subject, client)
    for row in rows:
        click.echo(_json(row) if _wants_json(as_json) else f"revoked {row['id']} of {_whose(row)} on {row['server']}")
    if not rows:
        stop("no such open session", EXIT_NOT_FOUND)


def _wants_json(as_json: bool | None) -> bool:
    return not sys.stdout.isatty() if as_json is None else as_json


def _print_table(rows: Sequence[Record]) -> None:
    """Print two lines for each; an id is whole in whatever width, because `revoke` wants it so."""
    table = Table(box=None, pad_edge=False)
    for header in _HEADERS:
        table.add_column(header, no_wrap=header.startswith("ID"), overflow="fold")
    for row in rows:
        cells = {name: _time(value) if isinstance(value, datetime) else _text(value) for name, value in row.items()}
        table.add_row(*(layout.format_map(cells) for layout in _CELLS))
    Console(highlight=False, markup=False).print(table)


def _time(value: datetime) -> str:
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _json(row: Record) -> str:
    return json.dumps(dict(row.items()), default=_text)


def _text(value: object) -> str:
    """Return a value for a terminal; what a token says must not move its cursor."""
    text = value.isoformat(timespec="seconds") if isinstance(value, datetime) else str(value)
    return text if text.isprintable() else ascii(text)


def _whose(row: Record) -> str:
    return row["subject"] or "an anonymous caller"
