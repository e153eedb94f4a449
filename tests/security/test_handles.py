"""SEC-13, SEC-15, SEC-16: session, event and task handles prove nothing, and they end."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from tests.fakes.recorder import Recorder
from tests.security.conftest import Guarded
from tests.security.test_door import INITIALIZE, PING
from tests.sidecar import META, MODERN, Sidecar, http


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, module_database, recorder: Recorder) -> Iterator[Guarded]:
    """One server; the owner's connection of the database is used to let a session grow old."""
    server = {
        "type": "external",
        "endpoint": f"http://127.0.0.1:{recorder.port}/mcp",
        "tools": {"echo": {}},
    }
    sidecar = Sidecar(
        tmp_path_factory.mktemp("handles"),
        module_database.dsn("postern_proxy"),
        {"a": server, "b": {**server}},
        {"audit": {"refusals_per_source": 1_000_000}},
    )
    try:
        sidecar.start_proxy()
        found = Guarded(sidecar, recorder, module_database.dsn("postern_auditor"))
        found.owner = module_database.dsn("postern_owner")
        yield found
    finally:
        sidecar.stop()


def _open(guarded: Guarded, **claims: Any) -> str:
    answer = guarded.sidecar.post("a", INITIALIZE, guarded.sidecar.token("a", **claims))
    assert answer.status == 200, answer.body
    return answer.headers["mcp-session-id"]


def _resume(guarded: Guarded, session: str, event: str, **claims: Any):
    headers = {
        "accept": "text/event-stream",
        "authorization": f"Bearer {guarded.sidecar.token('a', **claims)}",
        "mcp-session-id": session,
        "last-event-id": event,
    }
    return http("GET", f"{guarded.sidecar.url}/a/mcp", headers)


def test_sec13_resuming_the_stream_of_another_principal_yields_nothing(guarded) -> None:
    session = _open(guarded)
    guarded.assert_refused(lambda: _resume(guarded, session, "1", sub="eve"), 404, "session.unknown")


def test_sec13_an_event_that_this_session_was_never_sent_yields_nothing(guarded) -> None:
    first, second = _open(guarded), _open(guarded)
    assert first != second
    guarded.assert_refused(lambda: _resume(guarded, second, "stolen-from-first"), 400, "session.event")


@pytest.mark.parametrize("event", ["x" * 10_000, "' or 1=1 --"])
def test_sec13_a_hostile_event_id_yields_nothing(guarded, event) -> None:
    session = _open(guarded)
    guarded.assert_refused(lambda: _resume(guarded, session, event), 400, "session.event")


async def _age(dsn: str, session: str, column: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        long_ago = datetime.now(UTC) - timedelta(days=30)
        await connection.execute(f"update mcp_sessions set {column} = $2 where id = $1", session, long_ago)
        await connection.execute("select pg_notify('postern_sessions', $1)", session)
    finally:
        await connection.close()


@pytest.mark.parametrize("column", ["last_activity", "expires"])
def test_sec15_idle_and_expired_sessions_are_unknown(guarded, column) -> None:
    """An old session answers like one that never was, also on a replica that has not seen it yet."""
    session = _open(guarded)
    asyncio.run(_age(guarded.owner, session, column))
    guarded.sidecar.kill("proxy", 15)
    guarded.sidecar.start_proxy()
    answer = guarded.sidecar.post("a", PING, guarded.sidecar.token("a"), mcp_session_id=session)
    assert (answer.status, answer.json()["error"]["data"]["code"]) == (404, "session.unknown")
    assert guarded.row(answer.headers["x-postern-execution-id"])["status"] == "denied"
    assert not any(b'"ping"' in body for _, _, body in guarded.recorder.seen), "at most the end of the session is told"


def test_sec15_an_expired_token_does_not_reopen_a_session(guarded) -> None:
    session = _open(guarded)
    token = guarded.sidecar.token("a", exp=1)
    guarded.assert_refused(lambda: guarded.sidecar.post("a", PING, token, mcp_session_id=session), 401, "auth.expired")


TASKS = {**META, "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}}}


@pytest.mark.parametrize("method", ["tasks/get", "tasks/cancel", "tasks/result", "tasks/update"])
def test_sec16_a_task_handle_that_nobody_was_given_reaches_no_server(guarded, method) -> None:
    """In either era; tests/integration/test_tasks.py has the handles of others."""
    token = guarded.sidecar.token("a")
    before = len(guarded.recorder.seen)
    legacy = guarded.sidecar.post("a", {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"taskId": "t"}}, token)
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"taskId": "t", "_meta": TASKS}}
    mirrored = {"mcp_protocol_version": MODERN, "mcp_method": method}
    if method != "tasks/result":
        mirrored["mcp_name"] = "t"
    modern = guarded.sidecar.post("a", message, token, **mirrored)
    assert len(guarded.recorder.seen) == before
    for answer, foreign in ((legacy, "tasks/update"), (modern, "tasks/result")):
        assert "error" in answer.json()
        expected = "authz.method" if method == foreign else "authz.unknown_task"
        assert guarded.row(answer.headers["x-postern-execution-id"])["decision"] == expected


def test_sec16_a_subscription_to_a_task_that_nobody_was_given_is_refused(guarded) -> None:
    params = {"notifications": {"taskIds": ["t"]}, "_meta": TASKS}
    message = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params}
    mirrored = {"mcp_protocol_version": MODERN, "mcp_method": "subscriptions/listen"}
    before = len(guarded.recorder.seen)
    answer = guarded.sidecar.post("a", message, guarded.sidecar.token("a"), **mirrored)
    assert guarded.row(answer.headers["x-postern-execution-id"])["decision"] == "authz.unknown_task"
    assert len(guarded.recorder.seen) == before
