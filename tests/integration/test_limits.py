"""What is beyond a limit, or cannot be called now, is refused with its own code, a row, and a time to try again."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from proxy.upstream.errors import UpstreamBusy, UpstreamInvalidRequest
from tests.fakes.recorder import Recorder
from tests.sidecar import META, Answer, Sidecar, wait_for


async def _rows(dsn: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch("select * from audit_log order by started_at")
    finally:
        await connection.close()


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _code(answer: Answer) -> str:
    return answer.json()["error"]["data"]["code"]


@pytest.fixture
def sidecar(tmp_path: Path, database) -> Iterator[Sidecar]:
    """Server `a` takes small bodies; `slow` takes one call at a time."""
    with Recorder() as recorder:
        quick: dict[str, Any] = {
            "type": "external",
            "endpoint": f"http://127.0.0.1:{recorder.port}/mcp",
            "limits": {"body_bytes": 2000},
            "tools": {"echo": {}},
        }
        slow: dict[str, Any] = {
            "transport": "stdio",
            "command": [sys.executable, "-m", "tests.fakes.slow", "--journal", str(tmp_path / "journal")],
            "limits": {"concurrency": 1},
            "tools": {"slow": {}},
        }
        sidecar = Sidecar(tmp_path / "s", database.dsn("postern_proxy"), {"a": quick, "slow": slow})
        try:
            sidecar.start_bridge("slow")
            sidecar.start_proxy()
            yield sidecar
        finally:
            sidecar.stop()


def test_body_over_the_servers_limit_is_refused(sidecar, database) -> None:
    answer = sidecar.call("a", "echo", {"text": "x" * 3000}, sidecar.token("a"))
    assert (answer.status, _code(answer)) == (413, "limit.body")
    assert [row["decision"] for row in asyncio.run(_rows(database.dsn("postern_auditor")))] == ["limit.body"]


def test_call_beyond_the_servers_concurrency_is_refused_and_the_running_one_is_not_hurt(
    sidecar, database, tmp_path
) -> None:
    token = sidecar.token("slow")
    answers: list[Answer] = []
    running = threading.Thread(target=lambda: answers.append(sidecar.call("slow", "slow", {"seconds": 3}, token)))
    running.start()
    journal = tmp_path / "journal"
    wait_for(lambda: journal.exists() and "start" in journal.read_text(), "the first call runs")
    second = sidecar.call("slow", "slow", {"seconds": 0}, token, rpc_id=2)
    running.join(timeout=30)
    assert (second.status, _code(second)) == (503, "limit.concurrency")
    assert int(second.headers["retry-after"]) >= 1
    assert answers[0].status == 200
    decisions = sorted(row["decision"] for row in asyncio.run(_rows(database.dsn("postern_auditor"))))
    assert decisions == ["authz.allowed", "limit.concurrency"]
    assert journal.read_text().count("start") == 1


def test_server_that_the_plugin_calls_down_is_refused_with_its_reason_and_comes_back(sidecar, database) -> None:
    """The row of `services` changes, the proxy hears of it at once, and says why."""
    import socket

    host = socket.gethostname()
    owner = database.dsn("postern_owner")
    down = (
        "insert into services (host, server, instance, type, status, health, can_route, reason, since, protocol_versions) "
        f"values ('{host}', 'a', 'test', 'external', 'failed', 'unhealthy', false, 'three checks failed in a row', now(), "
        "'{2025-11-25}')"
    )
    token = sidecar.token("a")
    asyncio.run(_execute(owner, down))
    asyncio.run(_execute(owner, "select pg_notify('postern_services', 'a')"))
    answer = wait_for(
        lambda: _unless_ok(sidecar.call("a", "echo", {}, token)), "the proxy hears that the server is down"
    )
    assert (answer.status, _code(answer)) == (503, "route.unavailable")
    assert "three checks failed in a row" in answer.json()["error"]["message"]
    version = {"mcp_protocol_version": "2099-01-01", "mcp_method": "ping"}
    meta = META | {"io.modelcontextprotocol/protocolVersion": "2099-01-01"}
    unknown = sidecar.post(
        "a", {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"_meta": meta}}, token, **version
    )
    assert unknown.json()["error"]["data"]["supported"] == ["2025-11-25"], (
        "what its health checks have found it to speak"
    )
    asyncio.run(_execute(owner, "delete from services where server = 'a'"))
    asyncio.run(_execute(owner, "select pg_notify('postern_services', 'a')"))
    wait_for(lambda: sidecar.call("a", "echo", {}, token).status == 200, "the server is called again")


def test_another_hosts_server_of_the_same_name_is_not_ours(sidecar, database) -> None:
    """Two replicas on two machines: what is down there says nothing about here."""
    down = (
        "insert into services (host, server, instance, type, status, health, can_route, reason, since) values "
        "('elsewhere', 'a', 'test', 'external', 'failed', 'unhealthy', false, 'down there', now())"
    )
    asyncio.run(_execute(database.dsn("postern_owner"), down))
    asyncio.run(_execute(database.dsn("postern_owner"), "select pg_notify('postern_services', 'a')"))
    for _ in range(20):
        assert sidecar.call("a", "echo", {}, sidecar.token("a")).status == 200


def test_flooded_source_is_told_so_and_a_preflight_has_its_own_decision(sidecar, database) -> None:
    from tests.sidecar import http

    answers = [sidecar.call("a", "echo", {}, None) for _ in range(22)]
    assert _code(answers[-1]) == "limit.refusals"
    assert answers[-1].status == 429
    http("OPTIONS", f"{sidecar.url}/a/mcp", {"origin": sidecar.url, "access-control-request-method": "POST"})
    assert "cors.preflight" in {row["decision"] for row in asyncio.run(_rows(database.dsn("postern_auditor")))}


def test_upstream_errors_of_our_own_making_have_their_codes() -> None:
    """No connection free, and a request that would not be HTTP: what the caller is told."""
    assert (UpstreamBusy("x").code, UpstreamBusy("x").status, UpstreamBusy("x").sent) == ("upstream.busy", 503, False)
    invalid = UpstreamInvalidRequest("x")
    assert (invalid.code, invalid.status, invalid.sent) == ("upstream.invalid_request", 500, False)


def _unless_ok(answer: Answer) -> Answer | None:
    return None if answer.status == 200 else answer
