"""A sidecar in front of the rug-pull server, locked as it was when somebody reviewed it."""

import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from registry.contracts.definitions import Kind, Pin
from registry.contracts.locked import Lock, ServerLock
from registry.contracts.lockfile import read_lock, write_lock
from tests.fakes.rug_pull import TOOLS, RugPull
from tests.fixtures_postgres import run_apart
from tests.sidecar import META, MODERN, Answer, Sidecar, wait_for


class Guarded(Sidecar):
    """`notes` is the server; `rows` reads the audit log. Proxies that share a database have each their own name."""

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "POSTERN_INSTANCE": self._instance}

    @property
    def _instance(self) -> str:
        return f"proxy-{self.port}"

    def lock(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        argv = [sys.executable, "-m", "registry.cli", "lock", *arguments]
        return subprocess.run(argv, env=self.environment(), capture_output=True, text=True, timeout=60, check=False)

    def ask(self, method: str, rpc_id: int = 1, **params: Any) -> Answer:
        """Send a request as a 2026-07-28 client would."""
        message = {"jsonrpc": "2.0", "id": rpc_id, "method": method, "params": {**params, "_meta": META}}
        named = params.get("name") or params.get("uri")
        mirrored = {"mcp_protocol_version": MODERN, "mcp_method": method, **({"mcp_name": named} if named else {})}
        return self.post("notes", message, self.token("notes"), **mirrored)

    def use(self, tool: str, **arguments: Any) -> Answer:
        return self.call("notes", tool, arguments, self.token("notes"))

    def tools(self) -> set[str]:
        return {tool["name"] for tool in self.ask("tools/list").json()["result"]["tools"]}

    def rows(self, where: str = "true") -> list[dict[str, Any]]:
        """Return rows of the audit log, oldest first."""
        query = f"select * from audit_log where {where} order by started_at"
        return run_apart(_fetch(self.dsn.replace("postern_proxy", "postern_auditor"), query))

    def drift(self) -> list[dict[str, Any]]:
        columns = "kind, name, change, detail, mode"
        query = f"select {columns} from contract_drift where instance = '{self._instance}' order by kind, name"
        return run_apart(_fetch(self.dsn, query))

    def fails_to_start(self, exit_code: int = 3) -> str:
        """Start the proxy, which ends with this exit code; return what it says."""
        process = self.start("proxy", [sys.executable, "-m", "registry.cli", "proxy"])
        assert process.wait(timeout=60) == exit_code, self.log("proxy")
        del self.processes["proxy"]
        return self.log("proxy")

    def drifted(self, *names: str) -> None:
        """Wait until these, and no others, are known to have drifted."""
        wait_for(lambda: [each["name"] for each in self.drift()] == sorted(names), f"drift of {names}: {self.drift()}")


async def _fetch(dsn: str, query: str) -> list[dict[str, Any]]:
    connection = await asyncpg.connect(dsn)
    try:
        return [dict(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


@contextmanager
def guarded(
    root: Path,
    dsn: str,
    rug: RugPull,
    *,
    contract: dict[str, Any] | None = None,
    tools: dict[str, Any] | None = None,
    lock: bool = True,
    before: Callable[[Guarded], None] | None = None,
    start: bool = True,
    others: dict[str, dict[str, Any]] | None = None,
    lock_others: list[str] | None = None,
    **registry: Any,
) -> Generator[Guarded]:
    """Run a proxy in front of the server; `before` is called between lock and start."""
    section = {
        "type": "external",
        "endpoint": rug.url,
        "tools": tools or {"*": {}},
        "prompts": {"*": {}},
        "resources": {"*": {}},
        "contract": contract or {},
    }
    sidecar = Guarded(root, dsn, {"notes": section, **(others or {})}, registry=registry)
    try:
        rug.become("honest")
        if lock:
            done = sidecar.lock("notes", *(lock_others or ()))
            assert done.returncode == 0, done.stdout + done.stderr
        if before is not None:
            before(sidecar)
        if start:
            sidecar.start_proxy()
        yield sidecar
    finally:
        sidecar.stop()


def pin_schema(path: Path, schema: dict[str, Any]) -> None:
    """Pin another input schema for `read_note`, as if the server had had it when it was locked."""
    notes = read_lock(path).servers["notes"]
    tool = Pin({**TOOLS[0], "inputSchema": schema})
    items: dict[Kind, Any] = {**notes.items, "tools": {**notes.of("tools"), "read_note": tool}}
    write_lock(path, Lock({"notes": ServerLock(items, notes.instructions)}))
