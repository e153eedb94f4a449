"""Databases that have been in use for a long time, made in a moment: rows of the audit log, sessions."""

import asyncio
import secrets
from collections.abc import Sequence

from registry.database.embedded import EmbeddedPostgres
from registry.database.initialise import OWNER, SUPERUSER
from registry.database.migrations import migrate
from registry.database.pool import connection
from tests.fixtures_postgres import execute
from tests.sidecar import ISSUER

SLICE = 500_000
_ROWS = """
    insert into audit_entries (
        format, kind, writer_id, seq, started_at, execution_id, server, http_method, method, tool, auth_method, issuer,
        subject, client, audience, scopes_required, scopes_held, scopes_matched, protocol_version, remote, instance,
        input, input_bytes, input_sha256, status, decision, reason, http_status, completed_at, duration_us, upstream_us,
        output, output_bytes, output_sha256, repeats, prev_hash, row_hash)
    select 1, 'row', '00000000-0000-7000-8000-000000000001', n, now() - make_interval(secs => n / 1000.0),
        gen_random_uuid(), 'server' || n % 50, 'POST', 'tools/call', 'tool' || n % 20, 'bearer', 'https://issuer.test',
        'user' || n % 1000, 'cli', 'http://127.0.0.1/mcp', '{a:read}', '{a:read,a:write}', '{a:read}', '2026-07-28',
        '127.0.0.1', 'bench', '{"q":1}', 7, sha256('in'), 'success', 'authz.allowed', 'every needed scope is held', 200,
        now(), 1000, 900, '{"content":[]}', 14, sha256('out'), 1, sha256('before'), sha256('after')
    from generate_series($1::bigint, $2::bigint) n
"""
_SESSIONS = """
    insert into mcp_sessions (id, server, issuer, subject, client, upstream_id, protocol_version, initialize,
                              event_key, idle_s, expires)
    select id, 'fast', $2, 'ada', 'cli', 'bench', '2025-11-25', '{}', sha256(id::bytea), 86400, now() + interval '1 day'
    from unnest($1::text[]) id
"""


def add_database(cluster: EmbeddedPostgres, name: str) -> None:
    """Make a migrated database in the cluster."""
    asyncio.run(_add(cluster, name))


async def _add(cluster: EmbeddedPostgres, name: str) -> None:
    await execute(cluster.dsn(SUPERUSER, "postgres"), f"create database {name} owner {OWNER}")
    await migrate(cluster.dsn(OWNER, name))


def add_rows(dsn: str, count: int) -> None:
    """Add so many rows of the last hours; they are no links of a chain, which no measurement reads."""
    asyncio.run(_fill(dsn, count))


async def _fill(dsn: str, count: int) -> None:
    async with connection(dsn, application_name="postern bench") as database:
        await database.execute("set synchronous_commit = off")
        for first in range(1, count + 1, SLICE):
            await database.execute(_ROWS, first, min(first + SLICE - 1, count))
        for table in ("audit_log", "audit_intents"):
            await database.execute(f"analyze {table}")


def write_out(cluster: EmbeddedPostgres) -> None:
    """Bring what was filled to the disk now, instead of beside the first commits that are measured."""
    asyncio.run(execute(cluster.dsn(SUPERUSER, "postgres"), "checkpoint"))


def add_sessions(dsn: str, count: int) -> Sequence[str]:
    """Open so many sessions of the bench's caller with the server `fast`; return their ids."""
    ids = [secrets.token_urlsafe(24) for _ in range(count)]
    asyncio.run(_open(dsn, ids))
    return ids


async def _open(dsn: str, ids: Sequence[str]) -> None:
    async with connection(dsn, application_name="postern bench") as database:
        await database.execute(_SESSIONS, ids, ISSUER)
