"""PostgreSQL for the fleet: the embedded one or that of DATABASE_URL, migrated, its addresses in private files."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from registry.database.dsn import describe_dsn
from registry.database.embedded import EmbeddedPostgres, default_base
from registry.database.errors import DatabaseError as RegistryDatabaseError
from registry.database.errors import DatabaseUnavailable
from registry.database.migrations import migrate, pending
from registry.database.pool import connection
from supervisor_plugin.paths import write_private
from supervisor_plugin.up.display import Say
from supervisor_plugin.up.errors import DatabaseError

OWNER = "postern_owner"
ROLES = ("proxy", "auditor", "operator")


class Cluster(Protocol):
    """A PostgreSQL that we keep alive."""

    def is_running(self) -> bool: ...
    def start(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Database:
    """The addresses by role, which hold passwords, and the cluster if it is ours."""

    owner: str = field(repr=False)
    by_role: dict[str, str] = field(repr=False)
    label: str
    cluster: Cluster | None = None


@contextlib.asynccontextmanager
async def running_database(state: Path, url: str | None, say: Say, note: Say) -> AsyncGenerator[Database]:
    """Lend a migrated database and write its addresses to the state directory; stop it afterwards if it is embedded."""
    if url:
        yield await _prepare(await _given(url), state, say, note)
        return
    server = EmbeddedPostgres(default_base(state))
    say("starting")
    try:
        yield await _prepare(await _start(server), state, say, note)
    finally:
        await _in_thread(server.stop)


async def keep_running(cluster: Cluster, note: Callable[[str], None], interval_s: float = 1.0) -> None:
    """Start an embedded cluster again whenever it has ended; until cancelled."""
    while True:
        await asyncio.sleep(interval_s)
        if await _in_thread(cluster.is_running):
            continue
        note("the embedded PostgreSQL has ended; starting it again")
        try:
            await _in_thread(cluster.start)
        except RegistryDatabaseError as error:
            raise DatabaseError(f"the embedded PostgreSQL ended, and does not start again: {error}") from error


async def _prepare(database: Database, state: Path, say: Say, note: Say) -> Database:
    say("migrating")
    try:
        # A database that is up to date needs no right to change it.
        applied = await migrate(database.owner) if await pending(database.owner) else []
    except RegistryDatabaseError as error:
        raise DatabaseError(f"{error}{_advice(database)}") from error
    if database.cluster is None:
        database = await _enter_roles(database, note)
    for role, address in {"owner": database.owner, **database.by_role}.items():
        write_private(state / f"dsn-{role}", f"{address}\n")
    say(f"{database.label}, {len(applied)} migrations" if applied else database.label)
    return database


def _advice(database: Database) -> str:
    return "" if database.cluster else f"\n  (DATABASE_URL: {database.label}; unset it to use the embedded PostgreSQL)"


async def _start(server: EmbeddedPostgres) -> Database:
    try:
        await _in_thread(server.start)
    except RegistryDatabaseError as error:
        raise DatabaseError(str(error)) from error
    by_role = {role: server.dsn(f"postern_{role}") for role in ROLES}
    return Database(server.dsn(OWNER), by_role, f"embedded, in {server.base}", server)


async def _given(url: str) -> Database:
    try:
        async with connection(url, application_name="postern up"):
            return Database(url, {}, describe_dsn(url))
    except DatabaseUnavailable as error:
        raise DatabaseError(f"{error}\n  (mend DATABASE_URL, or unset it to use the embedded PostgreSQL)") from error


async def _enter_roles(database: Database, note: Say) -> Database:
    """Let each part enter a given database with its own role, as far as the given user may become it."""
    by_role: dict[str, str] = {}
    closed: list[str] = []
    for role in ROLES:
        by_role[role] = with_role(database.owner, f"postern_{role}")
        try:
            async with connection(by_role[role], application_name="postern up"):
                pass
        except DatabaseUnavailable:
            closed.append(f"postern_{role}")
            by_role[role] = database.owner
    if closed:
        note(f"{database.label} may not become {', '.join(closed)}: what should, has all rights of this user instead")
    return replace(database, by_role=by_role)


def with_role(dsn: str, role: str) -> str:
    """Return an address that enters the database as its user and then becomes `role`."""
    parts = urlsplit(dsn)
    query = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != "role"]
    return urlunsplit(parts._replace(query=urlencode([*query, ("role", role)])))


async def _in_thread(work: Callable[[], Any]) -> Any:
    """Run blocking work to its end, also when we are cancelled meanwhile: a half-started cluster must be known."""
    task = asyncio.create_task(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
