"""A running proxy in front of a server that remembers what it saw, and the rows that were written."""

import asyncio
import http.client
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import asyncpg
import pytest

from tests.fakes.recorder import Recorder
from tests.sidecar import ISSUER, Answer, Sidecar

TOOL_SCOPES = {
    "echo": {"scopes": ["a:read"]},
    "write": {"scopes": ["a:write", "a:audit"]},
    "secret": {"scopes": ["a:secret"]},
}


class Guarded:
    """Two servers `a` and `b` behind one proxy; `assert_refused` checks answer, row and silence upstream at once."""

    def __init__(self, sidecar: Sidecar, recorder: Recorder, auditor_dsn: str) -> None:
        self.sidecar = sidecar
        self.recorder = recorder
        self.owner = ""
        self._dsn = auditor_dsn

    def row(self, execution_id: str) -> dict[str, Any]:
        """Return the one row of an answer."""
        found = asyncio.run(self._rows("where execution_id = $1::text::uuid", execution_id))
        assert len(found) == 1, f"{len(found)} rows for {execution_id}"
        return found[0]

    async def _rows(self, where: str, *arguments: object) -> list[dict[str, Any]]:
        connection = await asyncpg.connect(self._dsn)
        try:
            return [dict(row) for row in await connection.fetch(f"select * from audit_log {where}", *arguments)]
        finally:
            await connection.close()

    def rows(self) -> list[dict[str, Any]]:
        """Return every row."""
        return asyncio.run(self._rows("order by started_at"))

    def assert_refused(self, send: Callable[[], Answer], status: int, code: str) -> Answer:
        """The answer has this status and code, its row says the same, and the server saw nothing."""
        before = len(self.recorder.seen)
        answer = send()
        assert answer.status == status, (answer.status, answer.body)
        data = answer.json()["error"]["data"]
        assert data["code"] == code, data
        row = self.row(answer.headers["x-postern-execution-id"])
        assert row["status"] == "denied"
        assert row["decision"] == code
        assert row["http_status"] == status
        assert len(self.recorder.seen) == before, "the server saw the request"
        return answer


def send_pairs(guarded: Guarded, pairs: Iterable[tuple[str, str]], body: bytes, path: str = "/a/mcp") -> Answer:
    """POST with http.client, which keeps repeated headers apart."""
    connection = http.client.HTTPConnection("127.0.0.1", guarded.sidecar.port, timeout=10)
    connection.putrequest("POST", path)
    for name, value in [*pairs, ("content-type", "application/json"), ("content-length", str(len(body)))]:
        connection.putheader(name, value)
    connection.endheaders(body)
    response = connection.getresponse()
    answer = Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    connection.close()
    return answer


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, module_database, recorder) -> Iterator[Guarded]:
    """`a` and `b` with keys of their own, `rsa` with an issuer's published ones, `open` for everybody."""
    oauth = {"scopes": ["a:use"]}
    external = {"type": "external", "endpoint": f"http://127.0.0.1:{recorder.port}/mcp"}
    published: dict[str, Any] = {"issuer": ISSUER, "algorithms": ["RS256", "HS256"], "scopes": ["rsa:use"]}
    published["jwks"] = {"url": f"http://127.0.0.1:{recorder.port}/keys", "allow_private": True}
    servers = {
        "a": {**external, "oauth": dict(oauth), "tools": TOOL_SCOPES},
        "rsa": {**external, "oauth": published, "tools": {"echo": {}}},
        "b": {**external, "tools": {"echo": {}}},
        "open": {**external, "oauth": {"required": False}, "tools": {"echo": {}}},
    }
    registry = {
        "permissions": {"implies": {"a:admin": ["a:write", "a:audit"], "a:write": ["a:read"]}},
        "audit": {"refusals_per_source": 1_000_000},
    }
    sidecar = Sidecar(tmp_path_factory.mktemp("security"), module_database.dsn("postern_proxy"), servers, registry)
    try:
        sidecar.start_proxy()
        yield Guarded(sidecar, recorder, module_database.dsn("postern_auditor"))
    finally:
        sidecar.stop()
