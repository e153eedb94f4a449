"""The walk through the whole house on real parts: official client, two third-party servers, both protocol eras."""

import contextlib
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import asyncpg
import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, TextContent

from tests.sidecar import MODERN, Sidecar, wait_for

SCOPES = {"time": ("time:use", "time:read"), "git": ("git:use", "git:read")}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("repository")
    for command in (
        ["init", "-q", "-b", "main"],
        ["-c", "user.name=Ada", "-c", "user.email=ada@example.test", "commit", "-q", "--allow-empty", "-m", "First"],
    ):
        subprocess.run(["git", *command], cwd=path, check=True)
    return path


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory, module_database, time_server, git_server) -> Iterator[Sidecar]:
    servers = {
        "time": _section(
            "time",
            time_server,
            {"get_current_time": {"scopes": ["time:read"]}, "convert_time": {"scopes": ["time:write"]}},
        ),
        "git": _section(
            "git", git_server, {"git_log": {"scopes": ["git:read"]}, "git_status": {"scopes": ["git:read"]}}
        ),
    }
    sidecar = Sidecar(tmp_path_factory.mktemp("walk"), module_database.dsn("postern_proxy"), servers)
    try:
        sidecar.start_bridge("time")
        sidecar.start_bridge("git")
        sidecar.start_proxy()
        yield sidecar
    finally:
        sidecar.stop()


def _section(name: str, command: list[str], tools: dict[str, dict[str, list[str]]]) -> dict:
    return {"transport": "stdio", "command": command, "oauth": {"scopes": [f"{name}:use"]}, "tools": tools}


@contextlib.asynccontextmanager
async def connected(sidecar: Sidecar, server: str, mode: str) -> AsyncGenerator[Client]:
    token = sidecar.token(server, " ".join(SCOPES[server]))
    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}, trust_env=False, timeout=30) as http:
        transport = streamable_http_client(f"{sidecar.url}/{server}/mcp", http_client=http)
        async with Client(transport, mode=mode) as client:
            yield client


def _text(result: CallToolResult) -> str:
    content = result.content[0]
    assert isinstance(content, TextContent)
    return content.text


async def rows(sidecar_dsn: str, where: str = "true", *arguments: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(sidecar_dsn)
    try:
        return await connection.fetch(f"select * from audit_log where {where} order by started_at", *arguments)
    finally:
        await connection.close()


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["legacy", MODERN])
async def test_official_client_lists_and_calls_tools_on_both_servers(
    sidecar, module_database, repository, mode
) -> None:
    """Lists are filtered to what the caller may call, calls answer, and every request has its row."""
    before = len(await rows(module_database.dsn("postern_auditor")))
    async with connected(sidecar, "time", mode) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["get_current_time"]
        result = await client.call_tool("get_current_time", {"timezone": "Europe/Berlin"})
        assert not result.is_error
        assert "Europe/Berlin" in _text(result)
    async with connected(sidecar, "git", mode) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == {"git_log", "git_status"}
        result = await client.call_tool("git_log", {"repo_path": str(repository)})
        assert "First" in _text(result)
    written = (await rows(module_database.dsn("postern_auditor")))[before:]
    calls = {row["server"]: row for row in written if row["method"] == "tools/call"}
    assert set(calls) == {"time", "git"}
    for server, row in calls.items():
        assert (row["status"], row["subject"], row["client"], row["issuer"]) == (
            "success",
            "ada",
            "cli",
            "https://issuer.test",
        )
        assert row["scopes_required"] == list(SCOPES[server])
        assert set(row["scopes_matched"]) == set(SCOPES[server])
        assert row["tool"] in {"get_current_time", "git_log"}
    assert {row["method"] for row in written if row["http_method"] == "POST"} >= {"tools/list", "tools/call"}
    assert len({row["execution_id"] for row in written}) == len(written)


def test_without_a_token_the_call_is_refused_with_a_challenge(sidecar, module_database) -> None:
    """401 with RFC 9728 metadata, a JSON-RPC body with the request's id, and no error word in the challenge."""
    answer = sidecar.call("time", "get_current_time", {"timezone": "UTC"}, token=None, rpc_id=7)
    assert answer.status == 401
    assert "resource_metadata=" in answer.headers["www-authenticate"]
    assert "error=" not in answer.headers["www-authenticate"]
    assert answer.json()["id"] == 7


def test_token_of_another_server_is_refused(sidecar) -> None:
    """A token opens the server that it was issued for and no other."""
    token = sidecar.token("git", "time:use time:read git:use git:read")
    answer = sidecar.call("time", "get_current_time", {"timezone": "UTC"}, token)
    assert answer.status == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_missing_scope_is_refused_with_the_whole_needed_set(sidecar) -> None:
    """A step-up challenge names every scope of the operation at once."""
    answer = sidecar.call("time", "get_current_time", {"timezone": "UTC"}, sidecar.token("time", "time:use"))
    assert answer.status == 403
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
    assert 'scope="time:use time:read"' in answer.headers["www-authenticate"]


@pytest.mark.anyio
async def test_each_refusal_has_one_row_with_its_reason(sidecar, module_database) -> None:
    """What the caller was told and what the auditor reads carry the same execution id."""
    answer = sidecar.call("time", "get_current_time", {"timezone": "UTC"}, sidecar.token("time", "time:use"))
    execution = answer.headers["x-postern-execution-id"]
    assert answer.json()["error"]["data"]["executionId"] == execution
    found = await rows(module_database.dsn("postern_auditor"), "execution_id = $1::text::uuid", execution)
    assert len(found) == 1
    row = found[0]
    assert (row["status"], row["tool"], row["http_status"]) == ("denied", "get_current_time", 403)
    assert row["decision"] == answer.json()["error"]["data"]["code"]
    assert row["scopes_held"] == ["time:use"]
    assert row["scopes_matched"] in ([], ["time:use"])


@pytest.fixture
def slow(tmp_path, database) -> Iterator[Sidecar]:
    """A sidecar of one server whose tool notes each arrival in a file and takes its time."""
    notes = tmp_path / "notes"
    command = [sys.executable, "-m", "tests.fakes.slow", "--journal", str(notes)]
    section = _section("slow", command, {"slow": {}})
    sidecar = Sidecar(tmp_path / "slow", database.dsn("postern_proxy"), {"slow": section})
    try:
        sidecar.start_bridge("slow")
        sidecar.start_proxy()
        yield sidecar
    finally:
        sidecar.stop()


@pytest.mark.anyio
async def test_killed_proxy_leaves_an_intent_that_the_next_start_closes_once(slow, tmp_path, database) -> None:
    """SIGKILL during a call: the intent is there, no row; the next start writes `interrupted`, exactly once."""
    notes = tmp_path / "notes"
    token = slow.token("slow")
    caller = threading.Thread(target=_call_and_ignore, args=(slow, token))
    caller.start()
    wait_for(lambda: notes.exists() and "start" in notes.read_text(), "the call reaches the server")
    slow.kill("proxy")
    caller.join(timeout=30)
    auditor = database.dsn("postern_auditor")
    assert await rows(auditor, "method = 'tools/call'") == []
    slow.start_proxy()

    async def closed() -> list[asyncpg.Record]:
        return await rows(auditor, "method = 'tools/call'")

    found: list[asyncpg.Record] = []
    for _ in range(600):
        if found := await closed():
            break
    assert [row["status"] for row in found] == ["interrupted"]
    assert found[0]["tool"] == "slow"
    slow.kill("proxy", 15)
    slow.start_proxy()
    assert len(await closed()) == 1


def _call_and_ignore(sidecar: Sidecar, token: str) -> None:
    with contextlib.suppress(OSError):
        sidecar.call("slow", "slow", {"seconds": 20}, token)


def test_without_the_audit_store_nothing_is_forwarded(tmp_path, private_postgres) -> None:
    """PostgreSQL stopped: 503 with Retry-After, the server saw none of the calls; started again: calls pass."""
    notes = tmp_path / "notes"
    section = _section("slow", [sys.executable, "-m", "tests.fakes.slow", "--journal", str(notes)], {"slow": {}})
    sidecar = Sidecar(tmp_path / "s", private_postgres.dsn("postern_proxy"), {"slow": section})
    try:
        sidecar.start_bridge("slow")
        sidecar.start_proxy()
        token = sidecar.token("slow")
        assert sidecar.call("slow", "slow", {"seconds": 0}, token).status == 200
        seen = notes.read_text()
        private_postgres.stop()
        for number in range(3):
            answer = sidecar.call("slow", "slow", {"seconds": 0}, token, rpc_id=number)
            assert answer.status == 503
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["error"]["data"]["code"] == "audit.unavailable"
        assert notes.read_text() == seen
        private_postgres.start()
        wait_for(lambda: sidecar.call("slow", "slow", {"seconds": 0}, token).status == 200, "calls pass again")
    finally:
        sidecar.stop()
