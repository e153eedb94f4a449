"""Options that the audit commands share, and the way from them to a connection."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, Final, Literal, NoReturn, ParamSpec

import asyncpg
import click
from rich.console import Console

from proxy.audit.errors import AuditStoreError
from proxy.audit.keys import KEYS, SIGNING_KEY, PublicKeys, Signer, public_keys_in
from proxy.audit.query import Filter
from proxy.audit.record import Status
from proxy.audit.times import read_any_time
from proxy.audit.when import parse_when
from registry.database.driver import Connection
from registry.database.errors import DatabaseError
from registry.database.pool import connect
from registry.output import end_if_output_is_full, end_if_reader_left

P = ParamSpec("P")
Role = Literal["auditor", "operator", "owner"]

EXIT_FINDINGS: Final = 1
EXIT_CANNOT_START: Final = 3


@dataclass(frozen=True, slots=True)
class Access:
    """Where the log is. The address may hold a password and is not part of the repr."""

    dsn: str | None
    state_dir: Path

    def __repr__(self) -> str:
        return f"Access(state_dir={str(self.state_dir)!r})"

    def address(self, roles: tuple[Role, ...] = ("auditor", "operator")) -> str:
        """Return the address: as given, or of the first role that the state directory knows."""
        if self.dsn:
            return self.dsn
        files = [self.state_dir / f"dsn-{role}" for role in roles]
        for file in files:
            if os.access(file, os.R_OK):
                return file.read_text(encoding="utf-8").strip()
        return stop(
            f"no database: give --dsn or $DATABASE_URL, or run where `postern up` keeps its state "
            f"(no readable dsn-{roles[0]} in {self.state_dir})"
        )

    @asynccontextmanager
    async def opened(self, roles: tuple[Role, ...] = ("auditor", "operator")) -> AsyncGenerator[Connection]:
        """Lend a connection."""
        settings = {"plan_cache_mode": "force_custom_plan"}
        database = await connect(self.address(roles), application_name="postern audit cli", settings=settings)
        await read_any_time(database)
        try:
            yield database
        finally:
            database.terminate()

    def public_keys(self, files: tuple[Path, ...]) -> PublicKeys:
        """Return the trusted keys: those given, else all that the proxy keeps in the state directory."""
        return PublicKeys.read(files or public_keys_in(self.state_dir / KEYS))

    def signer(self, file: Path | None) -> Signer:
        """Return who signs: the key given, else the one in the state directory."""
        path = file or self.state_dir / KEYS / SIGNING_KEY
        try:
            return Signer.from_pem(path.read_bytes())
        except OSError as error:
            stop(f"the signing key cannot be read: {path}: {error.strerror}; give --signing-key")


def stop(message: str, code: int = EXIT_CANNOT_START) -> NoReturn:
    """Say why, and end."""
    click.echo(f"postern audit: {message}", err=True)
    sys.exit(code)


def console() -> Console:
    return Console(soft_wrap=False, highlight=False, markup=False)


def runs(work: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a coroutine as a command; what an operator can mend becomes one line, not a traceback."""

    @wraps(work)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            asyncio.run(work(*args, **kwargs))
        except (DatabaseError, AuditStoreError) as error:
            stop(str(error))
        except asyncpg.UndefinedTableError:
            stop("the database has no audit tables: run `postern migrate`")
        except asyncpg.InsufficientPrivilegeError as error:
            stop(f"this role may not do that: {error}")
        except (ConnectionError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            end_if_reader_left(error)
            stop(f"the database failed: {error}")
        except OSError as error:
            end_if_output_is_full(error)
            stop(str(error))

    return command


class When(click.ParamType[datetime]):
    """A point in time; see `parse_when`."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return parse_when(value, datetime.now(UTC))
        except ValueError:
            self.fail(f"{value!r}: expected 15m, 2h, 7d (ago), today, yesterday or 2026-11-23T14:00", param, ctx)


_FILTERS: Final = (
    click.option("--server", help="Name of the server."),
    click.option("--tool", help="Name of the tool, prompt or resource."),
    click.option("--method", help="JSON-RPC method, such as tools/call."),
    click.option("--principal", "--subject", "subject", help="Who asked: the subject of the credential."),
    click.option("--agent", help="Agent that asked."),
    click.option(
        "--status", multiple=True, type=click.Choice([each.value for each in Status]), help="May be repeated."
    ),
    click.option("--decision", help="Code of the decision, or its family: authz, auth.expired …"),
    click.option("--scope", help="A scope that was needed, or that let the request in."),
    click.option("--session", help="Session id."),
    click.option("--asserted-by", help="Trusted proxy that asserted the identity."),
    click.option("--trace", "trace_id", help="W3C trace id."),
    click.option("--since", type=When(), help="From this time: 15m, 2h, 7d (ago), today, 2026-11-23T14:00 (UTC)."),
    click.option("--until", type=When(), help="Before this time."),
)


def filters(command: Callable[..., None]) -> Callable[..., None]:
    """Add the filter options; the command gets them as one `wanted`."""

    @wraps(command)
    def filtered(*args: Any, **options: Any) -> None:
        chosen = {field.name: options.pop(field.name) for field in fields(Filter)}
        chosen["status"] = chosen["status"] or None
        command(*args, wanted=Filter(**chosen), **options)

    for option in reversed(_FILTERS):
        filtered = option(filtered)
    return filtered
