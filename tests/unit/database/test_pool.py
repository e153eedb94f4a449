"""One clear error for every way in which there is no connection, and the plain one for a statement's own fault."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from registry.database.errors import DatabaseUnavailable
from registry.database.initialise import SUPERUSER
from registry.database.pool import connect, connection, create_pool, is_connection_error
from tests.fixtures_postgres import Cluster, Database, ExternalCluster, execute

SECRET = "Tr0ub4dor"


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


async def test_a_pool_connects_as_the_role_that_was_asked_for(database: Database):
    pool = await create_pool(database.dsn("postern_proxy"), min_size=2, max_size=3, application_name="a test")
    assert pool.get_size() == 2
    assert await pool.fetchval("select current_user") == "postern_proxy"
    async with pool.acquire() as lent:
        assert await lent.fetchval("show application_name") == "a test"
    await pool.close()


async def test_settings_and_init_reach_each_connection(database: Database):
    prepared: list[str] = []

    async def init(fresh: asyncpg.Connection) -> None:
        prepared.append(str(await fresh.fetchval("show statement_timeout")))

    pool = await create_pool(database.dsn(), settings={"statement_timeout": "1234ms"}, init=init)
    await pool.close()
    assert prepared == ["1234ms"]


@pytest.mark.parametrize("make", [connect, create_pool])
async def test_a_server_that_does_not_run_is_named_without_the_password(make, closed_port: int):
    with pytest.raises(DatabaseUnavailable, match="it cannot be reached: check that it runs") as caught:
        await make(f"postgresql://proxy:{SECRET}@127.0.0.1:{closed_port}/postern")
    assert f"proxy@127.0.0.1:{closed_port}/postern" in str(caught.value)
    assert SECRET not in repr(caught.value)


@pytest.mark.parametrize("make", [connect, create_pool])
async def test_a_server_that_never_answers_is_given_up(make, silent_port: int):
    with pytest.raises(DatabaseUnavailable, match="does not answer in time"):
        await make(f"postgresql://proxy:{SECRET}@127.0.0.1:{silent_port}/postern?sslmode=disable", timeout_s=0.2)


async def test_a_host_without_an_address_is_named():
    with pytest.raises(DatabaseUnavailable, match=r"proxy@nowhere\.invalid/postern: it cannot be reached"):
        await connect("postgresql://proxy@nowhere.invalid/postern")


async def test_a_socket_that_is_not_there_is_named(tmp_path: Path):
    """Who reads the log of a fleet that is down meets this first."""
    with pytest.raises(DatabaseUnavailable, match="its socket is not there; an embedded one runs while `postern up`"):
        await connect(f"postgresql://proxy@/postern?host={tmp_path}")


async def test_a_database_that_does_not_exist_is_named(postgres: Cluster):
    with pytest.raises(DatabaseUnavailable, match=r'does not exist: create it \(database "no_such" does not exist\)'):
        await connect(postgres.dsn("postern_owner", "no_such"))


def needs_real_logins(database: Database) -> None:
    if isinstance(database.cluster, ExternalCluster):
        pytest.skip("TEST_DATABASE_URL logs in as its superuser, who is let in everywhere")


async def test_a_user_who_may_not_connect_is_told_so(database: Database):
    needs_real_logins(database)
    await execute(database.dsn(), f"revoke connect on database {database.name} from public")
    with pytest.raises(DatabaseUnavailable, match="GRANT CONNECT"):
        await connect(database.dsn("postern_proxy"))


async def test_a_user_whom_the_server_does_not_let_in_is_told_so(database: Database):
    needs_real_logins(database)
    with pytest.raises(DatabaseUnavailable, match=r"it refuses the user: check user, password and pg_hba\.conf"):
        await connect(database.cluster.dsn("stranger", database.name))


async def test_a_server_without_a_free_connection_says_so(database: Database):
    needs_real_logins(database)
    await execute(database.cluster.dsn(SUPERUSER, "postgres"), f"alter database {database.name} connection limit 1")
    async with connection(database.dsn()):
        with pytest.raises(DatabaseUnavailable, match="raise max_connections or use fewer workers"):
            await connect(database.dsn())


@pytest.mark.parametrize("make", [connect, create_pool])
@pytest.mark.parametrize(
    "dsn",
    [f"postgresql://u:{SECRET}@/d?host=h&port={SECRET}", f"postgresql://u:{SECRET}@h/d?sslmode={SECRET}", "nonsense"],
)
async def test_an_address_that_is_not_understood_is_refused_without_quoting_it(make, dsn: str):
    with pytest.raises(
        DatabaseUnavailable, match=r"DATABASE_URL cannot be used: .*postgresql://USER:PASSWORD"
    ) as caught:
        await make(dsn)
    shown = caught.value
    assert SECRET not in str(shown)
    assert shown.__cause__ is None


async def test_a_connection_that_is_cut_in_a_block_is_the_same_error(database: Database):
    with pytest.raises(DatabaseUnavailable, match="the connection was lost"):
        await cut_in_a_block(database)


async def cut_in_a_block(database: Database) -> None:
    async with connection(database.dsn()) as lent:
        await cut(database, lent.get_server_pid())
        await lent.fetchval("select 1")


async def cut(database: Database, pid: int) -> None:
    await execute(database.cluster.dsn(SUPERUSER, database.name), f"select pg_terminate_backend({pid}, 5000)")


async def test_a_statements_own_fault_stays_what_it_is(database: Database):
    with pytest.raises(asyncpg.UndefinedTableError):
        async with connection(database.dsn()) as lent:
            await lent.execute("select * from no_such")
    with pytest.raises(asyncpg.DataError):
        async with connection(database.dsn()) as lent:
            await lent.fetchval("select $1::int", "text")
    with pytest.raises(FileNotFoundError):
        async with connection(database.dsn()):
            raise FileNotFoundError


async def test_what_is_a_lost_connection_and_what_is_not(database: Database):
    pool = await create_pool(database.dsn(), max_size=1)
    async with pool.acquire() as lent:
        pid = await lent.fetchval("select pg_backend_pid()")
        await cut(database, pid)
        with pytest.raises(Exception) as lost:
            await lent.fetchval("select 1")
        with pytest.raises(Exception) as gone:
            await lent.fetchval("select 1")
    await pool.close()
    with pytest.raises(Exception) as closed:
        await pool.fetchval("select 1")
    assert [is_connection_error(one.value) for one in (lost, gone, closed)] == [True, True, True]
    assert not is_connection_error(asyncpg.UniqueViolationError("x"))
    assert not is_connection_error(asyncpg.InterfaceError("another operation is in progress"))


async def test_a_pool_that_need_not_connect_at_once_comes_up_without_its_server(closed_port: int):
    pool = await create_pool(f"postgresql://proxy@127.0.0.1:{closed_port}/postern", min_size=0)
    with pytest.raises(ConnectionRefusedError) as refused:
        await pool.fetchval("select 1")
    assert is_connection_error(refused.value)
    await asyncio.wait_for(pool.close(), 5)
