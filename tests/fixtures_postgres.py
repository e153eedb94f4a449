"""Real PostgreSQL for tests.

    postgres          session   one embedded cluster (or the one of TEST_DATABASE_URL, whose user must be superuser)
    database          function  a fresh, migrated database in it
    module_database   module    the same, shared by the tests of a module
    empty_database    function  a fresh database without our tables
    private_postgres  function  a migrated cluster of one's own that may be stopped, killed, frozen and restarted
    renewed_postgres  function  the same, with a fresh database in the one cluster that the tests of a module hurt in turn

Each has `dsn(role)`; roles are postern_owner, postern_proxy, postern_auditor, postern_operator and, for what only a test
does, SUPERUSER. Nothing is left behind.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit, urlunsplit

import pytest

from registry.database.embedded import EmbeddedPostgres
from registry.database.initialise import DATABASE, OWNER, SUPERUSER
from registry.database.migrations import migrate
from registry.database.pool import connection
from registry.database.postmaster import processes_of

T = TypeVar("T")
TEMPLATE = "postern_template"
WAIT_S = 30.0
HASTE = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "max_wal_size": "256MB",
}


def run_apart(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a thread of its own, so that it does not matter whether a loop runs here."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


class Cluster(Protocol):
    """Where databases are made."""

    def dsn(self, role: str, database: str = ...) -> str: ...


class ExternalCluster:
    """The server of TEST_DATABASE_URL; its superuser becomes each role by SET ROLE at the start of a session."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)

    def dsn(self, role: str, database: str = DATABASE) -> str:
        chosen = [] if role == SUPERUSER else [f"role={role}"]
        query = "&".join([part for part in (self._parts.query, *chosen) if part])
        return urlunsplit(self._parts._replace(path=f"/{database}", query=query))

    def prepare(self) -> None:
        run_apart(execute(self.dsn(SUPERUSER, "postgres"), *_ROLE_STATEMENTS))


_ROLE_STATEMENTS = (
    f"""do $$ begin
        if not exists (select from pg_roles where rolname = '{OWNER}') then create role {OWNER} login createdb; end if;
        end $$""",
    (Path(__file__).parents[1] / "registry" / "database" / "roles.sql").read_text(),
)


@dataclass(frozen=True)
class Database:
    """One database of a cluster."""

    cluster: Cluster
    name: str

    def dsn(self, role: str = OWNER) -> str:
        return self.cluster.dsn(role, self.name)


@dataclass
class PrivatePostgres:
    """A cluster for fault tests. Its database is migrated; fsync is on, as in real life."""

    base: Path
    name: str = DATABASE
    server: EmbeddedPostgres = field(init=False)

    def __post_init__(self) -> None:
        self.server = EmbeddedPostgres(self.base)

    def dsn(self, role: str = OWNER, database: str | None = None) -> str:
        return self.server.dsn(role, database or self.name)

    def start(self) -> None:
        self.server.start()

    def stop(self) -> None:
        """Fast shutdown: clients are cut off, nothing is lost."""
        self.server.stop()

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill(self) -> None:
        """SIGKILL to every process of the server, as a machine that loses power does."""
        kill_all(self.base)

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, nothing answers. Undo with `thaw`."""
        for pid in processes_of(self.base / "data"):
            _send(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in processes_of(self.base / "data"):
            _send(pid, signal.SIGCONT)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """The cluster that all tests share; make databases in it through `database`."""
    url = os.environ.get("TEST_DATABASE_URL")
    if url:
        external = ExternalCluster(url)
        external.prepare()
        yield external
        return
    base = fresh_base()
    server = EmbeddedPostgres(base, extra_settings=HASTE)
    try:
        server.start()
        yield server
    finally:
        discard(server)


@pytest.fixture(scope="session")
def migrated_template(postgres: Cluster) -> Iterator[str]:
    """The name of a migrated database that nobody is connected to."""
    name = f"{TEMPLATE}_{secrets.token_hex(4)}"
    run_apart(execute(postgres.dsn(SUPERUSER, "postgres"), f"create database {name} owner {OWNER}"))
    try:
        run_apart(migrate(postgres.dsn(OWNER, name)))
        yield name
    finally:
        drop(postgres, name)


@pytest.fixture
def database(postgres: Cluster, migrated_template: str) -> Iterator[Database]:
    yield from fresh_database(postgres, migrated_template)


@pytest.fixture(scope="module")
def module_database(postgres: Cluster, migrated_template: str) -> Iterator[Database]:
    yield from fresh_database(postgres, migrated_template)


@pytest.fixture
def empty_database(postgres: Cluster) -> Iterator[Database]:
    yield from fresh_database(postgres, "template1")


@pytest.fixture
def private_postgres() -> Iterator[PrivatePostgres]:
    own = PrivatePostgres(fresh_base())
    try:
        own.start()
        run_apart(migrate(own.dsn()))
        yield own
    finally:
        own.thaw()
        discard(own.server)


@pytest.fixture(scope="module")
def hurt_cluster() -> Iterator[PrivatePostgres]:
    own = PrivatePostgres(fresh_base())
    try:
        own.start()
        run_apart(migrate(own.dsn()))
        yield own
    finally:
        own.thaw()
        discard(own.server)


@pytest.fixture
def renewed_postgres(hurt_cluster: PrivatePostgres) -> Iterator[PrivatePostgres]:
    own = hurt_cluster
    own.start()
    for fresh in fresh_database(own, DATABASE):
        own.name = fresh.name
        try:
            yield own
        finally:
            own.name = DATABASE
            own.thaw()
            own.start()


def fresh_base() -> Path:
    """Return a base directory that does not exist yet; pytest's own directories are closed to root's server."""
    return Path(tempfile.gettempdir()).resolve() / f"postern-test-{os.getpid()}-{secrets.token_hex(4)}"


def discard(server: EmbeddedPostgres) -> None:
    """Stop a cluster and remove all that it left."""
    try:
        server.stop()
    finally:
        kill_all(server.base)
        shutil.rmtree(server.base, ignore_errors=True)


def kill_all(base: Path) -> None:
    """SIGKILL to every process of the server at `base`."""
    for pid in processes_of(base / "data"):
        _send(pid, signal.SIGKILL)
    wait_until(lambda: not processes_of(base / "data"), "the killed server is gone")


def fresh_database(cluster: Cluster, template: str) -> Iterator[Database]:
    name = f"test_{secrets.token_hex(6)}"
    statement = f"create database {name} template {template} strategy file_copy owner {OWNER}"
    run_apart(execute(cluster.dsn(SUPERUSER, "postgres"), statement))
    try:
        yield Database(cluster, name)
    finally:
        drop(cluster, name)


def drop(cluster: Cluster, name: str) -> None:
    run_apart(execute(cluster.dsn(SUPERUSER, "postgres"), f"drop database {name} with (force)"))


async def execute(dsn: str, *statements: str) -> None:
    """Run statements, each on its own, on a connection that is closed afterwards."""
    async with connection(dsn, application_name="postern tests") as opened:
        for statement in statements:
            await opened.execute(statement)


def wait_until(is_so: Any, what: str, limit_s: float = WAIT_S) -> None:
    """Poll until `is_so()`; fail with `what` after the limit."""
    deadline = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what}"
        time.sleep(0.01)


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
