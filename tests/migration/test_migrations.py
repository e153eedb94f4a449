"""The migration runner on real PostgreSQL."""

from tests.fixtures_postgres import Database, execute


async def test_x(database: Database):
    await execute(database.dsn(), "select 1")
async def test_y(database: Database):
    await execute(database.dsn("postern_proxy"), "select 1")
