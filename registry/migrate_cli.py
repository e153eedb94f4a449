"""`postern migrate`: bring a database up to date without bringing a fleet up, as an upgrade or a sidecar wants it.

Exit codes: 0 up to date, 2 usage, 3 it could not be migrated.
"""

import asyncio
import sys
from pathlib import Path

import click

from registry.database.dsn import describe_dsn
from registry.database.errors import DatabaseError
from registry.database.migrations import migrate

EXIT_CANNOT_START = 3


@click.command("migrate")
@click.option(
    "--dsn",
    envvar="DATABASE_URL",
    help="Address of the tables' owner; default $DATABASE_URL, then the state directory.",
)
@click.option("--state-dir", envvar="POSTERN_STATE_DIR", default=".postern", type=click.Path(path_type=Path))
def command(dsn: str | None, state_dir: Path) -> None:
    """Bring the tables of a database up to date; `postern up` does it by itself.

    Several may do it at once: one works, the others wait. Needs the role that owns the tables.
    """
    try:
        address = dsn or _owners(state_dir)
        applied = asyncio.run(migrate(address))
    except DatabaseError as error:
        click.echo(f"postern migrate: {error}", err=True)
        sys.exit(EXIT_CANNOT_START)
    for label in applied:
        click.echo(f"applied {label}")
    click.echo(f"{describe_dsn(address)}: up to date")


def _owners(state_dir: Path) -> str:
    """Return the address that `postern up` keeps; the embedded PostgreSQL behind it runs only while the fleet does."""
    try:
        return (state_dir / "dsn-owner").read_text(encoding="utf-8").strip()
    except OSError as error:
        raise DatabaseError(
            "no database: give --dsn or $DATABASE_URL, or run where `postern up` keeps its state "
            f"(no readable dsn-owner in {state_dir})"
        ) from error
