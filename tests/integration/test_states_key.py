"""The key of all replicas on a database: whoever comes first makes it, and nobody is left without."""

import asyncio

import pytest

from proxy.states import KEY_BYTES, load_key
from registry.database.errors import MigrationError
from registry.database.pool import create_pool


async def test_replicas_that_start_together_have_one_key(database) -> None:
    pools = [await create_pool(database.dsn("postern_proxy")) for _ in range(4)]
    try:
        keys = await asyncio.gather(*(load_key(pool) for pool in pools * 4))
    finally:
        for pool in pools:
            await pool.close()
    assert len(set(keys)) == 1
    assert len(keys[0]) == KEY_BYTES


async def test_a_database_of_an_older_version_is_named_with_the_way_out(database) -> None:
    owner = await create_pool(database.dsn())
    pool = await create_pool(database.dsn("postern_proxy"))
    try:
        async with owner.acquire() as connection:
            await connection.execute("drop table proxy_keys")
        with pytest.raises(MigrationError, match="run `postern migrate`"):
            await load_key(pool)
    finally:
        await pool.close()
        await owner.close()
