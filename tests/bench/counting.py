"""As many rows as answers: what PostgreSQL holds afterwards, against what callers got."""

import asyncio
import http.client
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from tests.bench.message import MODERN
from tests.bench.stage import Target

CALLERS = 8
SETTLED_S = 1.0
LIMIT_S = 60.0
_COUNTS = """
    select count(*) filter (where kind = 'row') as rows,
           count(*) filter (where kind = 'intent') as intents,
           count(*) filter (where kind = 'row' and status <> 'success') as others
    from audit_entries where method = 'tools/call'
"""


@dataclass(frozen=True, slots=True)
class Count:
    """What the table holds of calls; `others` are rows that do not say success: callers that were cut off."""

    rows: int
    intents: int
    others: int


@dataclass
class Tally:
    """Execution ids that callers were told."""

    ids: set[str] = field(default_factory=set[str])
    answers: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def count_rows(dsn: str) -> Count:
    """Return the counts as soon as they do not change any more."""
    return asyncio.run(_settled(dsn))


async def _settled(dsn: str) -> Count:
    connection = await asyncpg.connect(dsn)
    try:
        deadline, last = time.monotonic() + LIMIT_S, None
        while True:
            row: Any = await connection.fetchrow(_COUNTS)
            found = Count(row["rows"], row["intents"], row["others"])
            if found == last or time.monotonic() > deadline:
                return found
            last = found
            await asyncio.sleep(SETTLED_S)
    finally:
        await connection.close()


def exact_calls(target: Target, calls: int) -> Tally:
    """Make so many calls, read every answer to its end, and return the execution ids that came with them."""
    tally = Tally()
    threads = [threading.Thread(target=_call, args=(target, calls // CALLERS, tally)) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tally


def _call(target: Target, calls: int, tally: Tally) -> None:
    parts, message = urlsplit(target.url), target.message(MODERN)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=15)
    for _ in range(calls):
        connection.request("POST", parts.path, message.body, message.headers)
        answer = connection.getresponse()
        answer.read()
        with tally.lock:
            tally.answers += answer.status == 200
            tally.ids.add(answer.headers.get("x-postern-execution-id", ""))
    connection.close()


def recorded_of(dsn: str, ids: set[str]) -> int:
    """Return how many of these executions have exactly one row that says success."""
    return asyncio.run(_recorded(dsn, ids))


async def _recorded(dsn: str, ids: set[str]) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        query = "select count(*) from audit_log where execution_id = any($1::uuid[]) and status = 'success'"
        return int(await connection.fetchval(query, list(ids)))
    finally:
        await connection.close()
