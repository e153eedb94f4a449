"""The key of all replicas on a database: whoever comes first makes it, and nobody is left without."""

import asyncio

from proxy.states import KEY_BYTES, load_key
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
