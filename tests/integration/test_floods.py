"""A flood of refusals costs few rows, every refused request is counted, and no answer leaves before its row (A7)."""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Callable
from itertools import count

import asyncpg

from tests.fakes.recorder import Recorder
from tests.sidecar import Answer, Sidecar, http, wait_for

LIMIT = 5
CALLERS = 30
EACH = 4


async def _rows(dsn: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch("select * from audit_log")
    finally:
        await connection.close()


def test_flood_is_recorded_in_few_rows_that_count_every_refusal(tmp_path, database) -> None:
    """120 refused requests: the first few have rows of their own, the others share; each answer names a real row."""
    with Recorder() as recorder:
        server = {"type": "external", "endpoint": f"http://127.0.0.1:{recorder.port}/mcp", "tools": {"echo": {}}}
        settings = {"audit": {"refusals_per_source": LIMIT, "refusals_window_s": 30}}
        sidecar = Sidecar(tmp_path / "s", database.dsn("postern_proxy"), {"a": server}, settings)
        try:
            sidecar.start_proxy()
            answers = _flood(lambda _: sidecar.call("a", "echo", {}, None), EACH)
            strangers = _flood(lambda number: http("POST", f"{sidecar.url}/nope-{number}/mcp", {}, b"{}"), 1)
            assert sidecar.call("a", "echo", {}, sidecar.token("a")).status == 200, "a good caller is not affected"
        finally:
            sidecar.stop()
    statuses = Counter(answer.status for answer in answers)
    assert statuses[401] == LIMIT
    assert statuses[429] == CALLERS * EACH - LIMIT
    rows = {str(row["execution_id"]): row for row in asyncio.run(_rows(database.dsn("postern_auditor")))}
    assert {answer.headers["x-postern-execution-id"] for answer in answers} <= set(rows)
    assert {answer.status for answer in strangers} == {429}
    unknown = [row for row in rows.values() if row["decision"] == "route.unknown_server"]
    assert sum(row["repeats"] for row in unknown) == len(strangers)
    assert len(unknown) < len(strangers) / 2, "names that the caller makes up share their row, too"
    refused = [row for row in rows.values() if row["decision"] == "auth.missing"]
    assert sum(row["repeats"] for row in refused) == CALLERS * EACH
    assert len(refused) < CALLERS * EACH / 3
    shared = [row for row in refused if row["repeats"] > 1]
    assert all(row["last_seen"] >= row["started_at"] and row["decision"] == "auth.missing" for row in shared)
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status == 429)


def test_clients_that_leave_before_their_request_is_whole_are_counted_in_few_rows(tmp_path, database) -> None:
    """Nobody waits for an answer, so nobody would pay for the rows."""
    endpoint = "http://127.0.0.1:9/mcp"
    server = {"type": "external", "endpoint": endpoint, "tools": {"echo": {}}}
    settings = {"audit": {"refusals_per_source": LIMIT, "refusals_window_s": 30}}
    sidecar = Sidecar(tmp_path / "s", database.dsn("postern_proxy"), {"a": server}, settings)
    try:
        sidecar.start_proxy()
        for _ in range(40):
            with socket.create_connection(("127.0.0.1", sidecar.port)) as client:
                client.sendall(
                    b"POST /a/mcp HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-length: 100\r\n\r\n{" % sidecar.port
                )

        def left() -> list[asyncpg.Record]:
            rows = asyncio.run(_rows(database.dsn("postern_auditor")))
            return rows if sum(row["repeats"] for row in rows) == 40 else []

        rows = wait_for(left, "every one of them is counted")
    finally:
        sidecar.stop()
    assert {(row["status"], row["decision"]) for row in rows} == {("cancelled", "client.left")}
    assert len(rows) < 15


def _flood(send: Callable[[int], Answer], each: int) -> list[Answer]:
    """Send from all callers at once; every request has a number of its own."""
    answers: list[Answer] = []
    numbers = count()

    def call() -> None:
        answers.extend(send(next(numbers)) for _ in range(each))

    callers = [threading.Thread(target=call) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return answers
