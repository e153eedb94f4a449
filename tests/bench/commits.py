"""The floor under a durable row: bare commits on the same PostgreSQL, one after the other on one connection.

python -m tests.bench.commits --dsn DSN --seconds S       prints {"commits":N,"p50_us":…}
"""

import argparse
import asyncio
import json
import time
from statistics import median

import asyncpg
import uvloop

ROW_BYTES = 2048
TABLE = "create table if not exists bench_commits (id bigint generated always as identity primary key, body bytea)"


async def commit_for(dsn: str, seconds: float) -> dict[str, float]:
    """Commit rows of the size of an audit row until the time is over."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(TABLE)
        insert = await connection.prepare("insert into bench_commits (body) values ($1)")
        body, taken, end = bytes(ROW_BYTES), list[float](), time.perf_counter() + seconds
        while (begun := time.perf_counter()) < end:
            await insert.fetch(body)
            taken.append(time.perf_counter() - begun)
    finally:
        await connection.close()
    return {"commits": len(taken), "p50_us": round(median(taken) * 1e6, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.commits")
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(commit_for(options.dsn, options.seconds))))


if __name__ == "__main__":
    main()
