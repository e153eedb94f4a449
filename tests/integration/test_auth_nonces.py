"""Used signatures in a real PostgreSQL: once for all workers, gone when old, closed when the store is away."""

import asyncio

import asyncpg
import pytest

from proxy.auth.bearer import ServerAuth
from proxy.auth.identity import Authenticated
from proxy.auth.nonces import NonceStoreUnavailableError, PostgresNonces
from proxy.auth.signer import Outgoing, Signer, new_nonce
from proxy.errors import Refusal
from registry.database.pool import create_pool
from tests.unit.auth.making import AUDIENCE, NOW, PROXY_SECRET, Literal, trusting
from tests.unit.auth.test_assertion import present


async def test_one_of_many_workers_gets_a_nonce(database):
    pools = [await create_pool(database.dsn("postern_proxy"), max_size=4) for _ in range(3)]
    try:
        stores = [PostgresNonces(pool) for pool in pools]
        for round_ in range(10):
            claims = [store.claim("k", f"nonce-{round_}", NOW) for store in stores for _ in range(4)]
            assert sorted(await asyncio.gather(*claims)) == [False] * 11 + [True]
        assert await stores[0].claim("other-key", "nonce-0", NOW)
    finally:
        for pool in pools:
            await pool.close()


async def test_a_signature_passes_one_replica_and_no_other(database):
    pools = [await create_pool(database.dsn("postern_proxy")) for _ in range(2)]
    try:
        found = trusting()
        doors = [ServerAuth.build(found, found.servers["notes"], Literal(), PostgresNonces(pool)) for pool in pools]
        call = Outgoing("POST", "/notes/mcp", AUDIENCE, "alice", (), b"{}")
        request = present(call, Signer.hmac("sso-1", PROXY_SECRET.encode()).postern(call, NOW, new_nonce()))
        answers = await asyncio.gather(*(door.authenticate(request.headers, NOW, request) for door in doors))
        assert sum(isinstance(answer, Authenticated) for answer in answers) == 1
        assert [a.code for a in answers if isinstance(a, Refusal)] == ["auth.identity_replayed"]
    finally:
        for pool in pools:
            await pool.close()


async def test_only_nonces_that_no_clock_accepts_any_more_are_pruned(database):
    pool = await create_pool(database.dsn("postern_proxy"))
    try:
        store = PostgresNonces(pool)
        await store.claim("k", "old", NOW - 301)
        await store.claim("k", "recent", NOW - 299)
        assert await store.prune(NOW) == 1
        assert await store.claim("k", "old", NOW)
        assert not await store.claim("k", "recent", NOW)
    finally:
        await pool.close()


async def test_the_table_survives_a_crash(database):
    connection = await asyncpg.connect(database.dsn())
    try:
        assert await connection.fetchval("select relpersistence from pg_class where relname = 'proxy_nonces'") == b"p"
    finally:
        await connection.close()


async def test_a_store_that_is_away_is_said_to_be(private_postgres):
    pool = await create_pool(private_postgres.dsn("postern_proxy"))
    try:
        store = PostgresNonces(pool, timeout_s=1.0)
        assert await store.claim("k", "n", NOW)
        await asyncio.to_thread(private_postgres.stop)
        with pytest.raises(NonceStoreUnavailableError):
            await store.claim("k", "m", NOW)
        await asyncio.to_thread(private_postgres.start)
        assert not await store.claim("k", "n", NOW)
    finally:
        await pool.close()
