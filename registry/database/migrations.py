"""The forward-only migration runner: `migrations/NNNN_name.sql`, each in one transaction, in order."""

import hashlib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

import asyncpg

from registry.database.driver import Connection
from registry.database.errors import ChecksumError, MigrationError, RolesMissingError, SchemaTooNewError
from registry.database.pool import connection
from registry.database.queries import load

ROLES: Final = ("postern_proxy", "postern_auditor", "postern_operator")
OLDEST_MAJOR: Final = 15
LOCK_KEY: Final = 0x706F737465726E  # "postern"
LOCK_TIMEOUT_S: Final = 60.0
_WHO: Final = "migrate as the owner of the database"
_PACKAGE = "registry.database"
_SQL = load(_PACKAGE, "migration_log.sql")
_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. `sha256` is over its bytes."""

    version: int
    name: str
    sql: str
    sha256: str

    @property
    def label(self) -> str:
        return f"{self.version:04d}_{self.name}"


def read_migrations(folder: Traversable | None = None) -> tuple[Migration, ...]:
    """Return the migration files in order; those that ship with Postern unless another folder is given."""
    found = [
        _read(entry) for entry in (folder or files(_PACKAGE) / "migrations").iterdir() if entry.name.endswith(".sql")
    ]
    ordered = sorted(found, key=lambda migration: migration.version)
    for earlier, later in itertools.pairwise(ordered):
        if earlier.version == later.version:
            raise MigrationError(f"two migrations have one number: {earlier.label} and {later.label}")
    return tuple(ordered)


async def migrate(
    dsn: str, migrations: Sequence[Migration] | None = None, *, wait_s: float = LOCK_TIMEOUT_S
) -> list[str]:
    """Bring the database up to date and return the labels of what was applied now, such as "0001_audit".

    Safe to run by several starters at once: one works, the others wait, at most `wait_s`.
    Raises DatabaseUnavailable or MigrationError.
    """
    wanted = read_migrations() if migrations is None else migrations
    async with connection(dsn, application_name="postern migrate") as database:
        await _check_server(database)
        await _lock(database, wait_s)
        try:
            await _ensure_roles(database)
            await _ensure_log(database)
            todo = choose_pending(wanted, await _applied(database))
            for migration in todo:
                await _apply(database, migration)
            return [migration.label for migration in todo]
        finally:
            if not database.is_closed():
                await database.execute(_SQL["unlock"], LOCK_KEY)


async def pending(dsn: str, migrations: Sequence[Migration] | None = None) -> list[str]:
    """Return the labels of what `migrate` would apply; any of our roles may ask. Raises as `migrate` does."""
    wanted = read_migrations() if migrations is None else migrations
    async with connection(dsn, application_name="postern migrate") as database:
        return [migration.label for migration in choose_pending(wanted, await _applied(database))]


def choose_pending(wanted: Iterable[Migration], applied: Mapping[int, tuple[str, str]]) -> list[Migration]:
    """Return what is not applied yet; `applied` maps a version to its name and sha256. Raises MigrationError."""
    known = {migration.version: migration for migration in wanted}
    for version, (name, sha256) in sorted(applied.items()):
        label = f"{version:04d}_{name}"
        if version not in known:
            raise SchemaTooNewError(
                f"the database has migration {label}, which this version does not know: upgrade Postern"
            )
        if known[version].sha256 != sha256:
            raise ChecksumError(
                f"migration {label} was applied with other contents than {known[version].label}.sql has now: "
                "restore the file and put the change into a new migration"
            )
    return [migration for version, migration in known.items() if version not in applied]


def _read(entry: Traversable) -> Migration:
    named = _FILE_NAME.fullmatch(entry.name)
    if named is None:
        raise MigrationError(f"{entry.name}: a migration is named NNNN_name.sql")
    content = entry.read_bytes()
    return Migration(int(named[1]), named[2], content.decode("utf-8"), hashlib.sha256(content).hexdigest())


async def _check_server(database: Connection) -> None:
    major = database.get_server_version().major
    if major < OLDEST_MAJOR:
        raise MigrationError(f"PostgreSQL {OLDEST_MAJOR} or newer is needed, this is {major}")


async def _lock(database: Connection, wait_s: float) -> None:
    await database.execute(_SQL["limit_waiting"], f"{wait_s * 1000:.0f}ms")
    try:
        await database.execute(_SQL["lock"], LOCK_KEY)
    except asyncpg.LockNotAvailableError as error:
        raise MigrationError(f"another process has been migrating this database for {wait_s:g} s") from error


async def _ensure_roles(database: Connection) -> None:
    missing = [row["wanted"] for row in await database.fetch(_SQL["missing_roles"], list(ROLES))]
    if not missing:
        return
    try:
        await database.execute((files(_PACKAGE) / "roles.sql").read_text(encoding="utf-8"))
    except asyncpg.InsufficientPrivilegeError as error:
        raise RolesMissingError(
            f"the roles {', '.join(missing)} do not exist and this user may not create them: "
            "let a role with CREATEROLE run deploy/sql/roles.sql once"
        ) from error


async def _ensure_log(database: Connection) -> None:
    if not await database.fetchval(_SQL["is_there"]):
        try:
            async with database.transaction():
                await database.execute(_SQL["create_log"])
                await database.execute(_SQL["grant_log"])
        except asyncpg.InsufficientPrivilegeError as error:
            raise MigrationError(f"this user may not create tables: {error}; {_WHO}") from error


async def _applied(database: Connection) -> dict[int, tuple[str, str]]:
    if not await database.fetchval(_SQL["is_there"]):
        return {}
    try:
        rows = await database.fetch(_SQL["applied"])
    except asyncpg.InsufficientPrivilegeError as error:
        raise MigrationError(f"this user may not read which migrations were applied: {error}; {_WHO}") from error
    return {row["version"]: (row["name"], row["sha256"]) for row in rows}


async def _apply(database: Connection, migration: Migration) -> None:
    try:
        async with database.transaction():
            await database.execute(migration.sql)
            await database.execute(_SQL["record"], migration.version, migration.name, migration.sha256)
    except asyncpg.PostgresError as error:
        if isinstance(error, asyncpg.PostgresConnectionError):
            raise
        raise MigrationError(f"migration {migration.label} failed, nothing of it is kept: {error}") from error
