"""The store is away under the running proxy: nothing is forwarded, callers are told, and every request gets its row."""

import asyncio
from typing import Any

from proxy.audit.keys import PublicKeys
from proxy.audit.verify import verify
from registry.database.pool import connection
from tests.fakes.recorder import Recorder
from tests.fixtures_postgres import PrivatePostgres
from tests.sidecar import Answer, Sidecar, http, wait_for


def test_every_request_of_an_outage_is_refused_and_has_its_row_afterwards(
    tmp_path, private_postgres: PrivatePostgres
) -> None:
    with Recorder() as recorder:
        server = {"type": "external", "endpoint": f"http://127.0.0.1:{recorder.port}/mcp", "tools": {"echo": {}}}
        sidecar = Sidecar(tmp_path / "s", private_postgres.dsn("postern_proxy"), {"a": server})
        try:
            sidecar.start_proxy()
            token = sidecar.token("a")
            assert sidecar.call("a", "echo", {}, token).status == 200
            private_postgres.stop()
            wait_for(lambda: http("GET", f"{sidecar.url}/readyz").status == 503, "health says that the store is away")
            seen = len(recorder.seen)
            told = ask(sidecar, token)
            assert len(recorder.seen) == seen, "nothing was forwarded"
            private_postgres.start()
            wait_for(lambda: http("GET", f"{sidecar.url}/readyz").status == 200, "the store is back")
            wait_for(lambda: len(rows(private_postgres)) == 1 + len(told), "the owed rows are written")
        finally:
            sidecar.stop()
    found = rows(private_postgres)
    for name, answer in told.items():
        assert answer.status == 503, (name, answer.body)
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["data"]["code"] == "audit.unavailable"
        row = found[answer.headers["x-postern-execution-id"]]
        assert row["http_status"] == 503
        assert (row["status"], row["decision"]) == (
            ("denied", "auth.missing") if name == "without a token" else ("failed", "audit.unavailable")
        )
        assert (row["method"], row["upstream_us"]) == ("tools/call" if name == "call" else "tools/list", None)
    assert {row["subject"] for row in found.values()} == {"ada", None}
    assert asyncio.run(findings(private_postgres)) == []


def ask(sidecar: Sidecar, token: str) -> dict[str, Answer]:
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    return {
        "call": sidecar.call("a", "echo", {"n": 1}, token),
        "list": sidecar.post("a", listing, token),
        "without a token": sidecar.post("a", listing),
    }


def rows(database: PrivatePostgres) -> dict[str, Any]:
    async def fetch() -> list[Any]:
        async with connection(database.dsn("postern_auditor")) as auditor:
            return await auditor.fetch("select * from audit_log")

    return {str(row["execution_id"]): row for row in asyncio.run(fetch())}


async def findings(database: PrivatePostgres) -> list[Any]:
    async with connection(database.dsn("postern_auditor")) as auditor:
        return (await verify(auditor, PublicKeys())).findings
