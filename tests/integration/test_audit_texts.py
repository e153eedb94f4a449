"""What callers, servers and hooks write into a row: no secret, no credential of ours, and not without end (SPEC A5)."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from tests.fakes.recorder import Recorder
from tests.fixtures_postgres import Database
from tests.sidecar import META, MODERN, Answer, Sidecar

KEY = 'upstream/7f3a9c+"Zq=='
OPAQUE = "0paque-Zx81kQ99"
TOKEN = "ghp_" + "a1B2" * 9
CAP = 400
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory, module_database: Database) -> Iterator[Sidecar]:
    root = tmp_path_factory.mktemp("texts")
    for name, value in (("key", KEY), ("authorization", f"Bearer {OPAQUE}")):
        (root / name).write_text(value, encoding="ascii")
        (root / name).chmod(0o600)
    headers = [
        {"name": "X-Api-Key", "value": f"file:{root / 'key'}"},
        {"name": "Authorization", "value": f"file:{root / 'authorization'}"},
    ]
    with Recorder() as recorder:
        endpoint = f"http://127.0.0.1:{recorder.port}/mcp"
        server: dict[str, Any] = {"type": "external", "endpoint": endpoint, "headers": headers}
        server["tools"] = {"echo": {}, "write": {"redact": {"output": ["/content/*/text", "/message"]}}}
        settings = {"audit": {"payload_bytes": CAP, "refusals_per_source": 1000}}
        sidecar = Sidecar(root / "s", module_database.dsn("postern_proxy"), {"a": server}, settings)
        try:
            sidecar.start_proxy()
            yield sidecar
        finally:
            sidecar.stop()


def say(sidecar: Sidecar, text: Any, kind: str = "result", tool: str = "echo") -> Answer:
    answer = sidecar.call("a", tool, {"say": text, "as": kind}, sidecar.token("a"))
    assert answer.status == 200, answer.body
    return answer


def row(database: Database, answer: Answer) -> dict[str, Any]:
    async def fetch() -> dict[str, Any]:
        connection = await asyncpg.connect(database.dsn("postern_auditor"))
        try:
            found = await connection.fetchrow(
                "select * from audit_log where execution_id = $1", answer.headers["x-postern-execution-id"]
            )
        finally:
            await connection.close()
        assert found is not None
        return dict(found)

    return asyncio.run(fetch())


def traces(found: dict[str, Any]) -> str:
    """Everything in a row that was written by others, but what was asked."""
    return repr([found[name] for name in ("output", "error", "reason", "hooks", "tool", "method")])


@pytest.mark.parametrize("kind", ["result", "tool_error", "error"])
def test_a_credential_that_the_server_repeats_is_in_no_column(
    sidecar: Sidecar, module_database: Database, kind: str
) -> None:
    answer = say(sidecar, f"refused: KEY and {OPAQUE} and {TOKEN}", kind)
    assert TOKEN.encode() in answer.body, "the caller gets what the server said"
    found = row(module_database, answer)
    assert found["error"] == (None if kind == "result" else found["error"])
    shown = traces(found)
    assert "[redacted]" in shown
    for secret in ("7f3a9c", OPAQUE, TOKEN):
        assert secret not in shown


def test_a_credential_in_json_inside_json_is_found_however_it_is_escaped(
    sidecar: Sidecar, module_database: Database
) -> None:
    assert "7f3a9c" not in traces(row(module_database, say(sidecar, {"deep": "KEY"})))


def test_a_credential_across_the_cut_leaves_no_beginning(sidecar: Sidecar, module_database: Database) -> None:
    """Wherever the cap falls: before, inside or behind the credential; the same for the cut of `error`."""
    for pad in range(CAP - 90, CAP - 30, 4):
        found = row(module_database, say(sidecar, "x" * pad + "KEY" + "y" * 400, "tool_error"))
        assert "upstream" not in traces(found)
    found = row(module_database, say(sidecar, "x" * 490 + "KEY", "tool_error"))
    assert len(found["error"]) <= 500
    assert "upst" not in found["error"]


def test_what_a_caller_names_is_bounded_and_without_secrets(sidecar: Sidecar, module_database: Database) -> None:
    """Also without any token: a refused request is recorded with what it named."""
    secret = sidecar.call("a", TOKEN, {}, sidecar.token("a"))
    params = {"name": "t" * 300_000, "arguments": {}}
    long = sidecar.post("a", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    unknown = sidecar.post(TOKEN[:40], {"jsonrpc": "2.0", "id": 1, "method": "ping"})
    assert (long.status, unknown.status) == (401, 404)
    assert TOKEN[:30] not in repr(row(module_database, secret))
    assert len(row(module_database, long)["tool"]) <= 512
    assert row(module_database, unknown)["server"] == "[redacted]"


@pytest.mark.parametrize(("kind", "told"), [("tool_error", "[redacted]"), ("error", "-32000: [redacted]")])
def test_what_pointers_take_out_of_an_answer_is_not_its_error_either(
    sidecar: Sidecar, module_database: Database, kind: str, told: str
) -> None:
    found = row(module_database, say(sidecar, "no room for Erika Mustermann", kind, "write"))
    assert found["error"] == told
    assert "Erika" not in traces(found)


@pytest.mark.parametrize("version", [OPAQUE, TOKEN[:32]])
def test_what_is_agreed_as_a_version_is_told_without_secrets(
    sidecar: Sidecar, module_database: Database, version: str
) -> None:
    """The server names no version, so that of the request is agreed upon, in this row and in those of the session."""
    token = sidecar.token("a")
    params = {"protocolVersion": version, "arguments": {"say": "welcome"}}
    opened = sidecar.post("a", {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}, token)
    listed = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
    used = sidecar.post("a", listed, token, mcp_session_id=opened.headers["mcp-session-id"])
    told = [row(module_database, answer)["protocol_version"] for answer in (opened, used)]
    assert told == ["[redacted]", "[redacted]"]


def test_the_trace_of_a_request_is_in_its_row(sidecar: Sidecar, module_database: Database) -> None:
    """The header's, or what the message names in `_meta`; what is no trace context is not taken."""
    parent = f"00-{TRACE}-00f067aa0ba902b7-01"
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    token = sidecar.token("a")
    by_header = sidecar.post("a", message, token, traceparent=parent)
    assert row(module_database, by_header)["trace_id"] == TRACE
    other = sidecar.post("a", message, token, traceparent="00-not-a-trace")
    assert row(module_database, other)["trace_id"] is None
    meta = {**META, "traceparent": parent}
    body = {
        "jsonrpc": "2.0",
        "id": 2,
        "method": "tools/call",
        "params": {"name": "echo", "arguments": {}, "_meta": meta},
    }
    mirrored = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "echo"}
    by_meta = sidecar.post("a", body, token, **mirrored)
    assert by_meta.status == 200, json.loads(by_meta.body)
    assert row(module_database, by_meta)["trace_id"] == TRACE
