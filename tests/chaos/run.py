"""Kill the proxy and hurt PostgreSQL while callers call; then count: answered ⊆ recorded, dispatched ⊆ recorded.

    scripts/chaos [--requests 10000] [--kills 50] [--seed N]

Each round starts the proxy with a fuse at one point of a call (`crashing_proxy.py`), calls it until it is dead, and
starts the next; in between PostgreSQL is stopped hard, or loses its connections in the middle of commits. At the end an
ordinary proxy closes what was interrupted, and every claim is checked against the tables. Exit 1 if one does not hold.
"""

import argparse
import asyncio
import http.client
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from registry.database.embedded import EmbeddedPostgres
from registry.database.initialise import SUPERUSER
from registry.database.migrations import migrate
from tests.chaos.crashing_proxy import POINTS
from tests.fakes.recorder import Recorder
from tests.sidecar import META, MODERN, Sidecar, wait_for

CALLERS = 8
ROUND_LIMIT_S = 20.0


@dataclass
class Tally:
    """What the callers saw: execution ids by status, and calls that got no answer at all."""

    answered: dict[str, int] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    unanswered: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, status: int, execution_id: str | None, code: str | None) -> None:
        """Keep an answer that must have a row; `audit.unavailable` is the one that says it has none."""
        with self.lock:
            self.statuses[status] += 1
            if execution_id is not None and code != "audit.unavailable":
                self.answered[execution_id] = status

    @property
    def total(self) -> int:
        """How many calls were made."""
        return sum(self.statuses.values()) + self.unanswered


class Caller(threading.Thread):
    """Calls without pause until told to stop, over one connection as long as it lasts."""

    def __init__(self, sidecar: Sidecar, token: str, numbers: "itertools.count[int]", tally: Tally) -> None:
        super().__init__()
        self.stop = threading.Event()
        self._port = sidecar.port
        self._token = token
        self._numbers = numbers
        self._tally = tally

    def run(self) -> None:
        """Call."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=15)
        while not self.stop.is_set():
            try:
                self._call(connection)
            except (OSError, http.client.HTTPException, ValueError):
                connection.close()
                with self._tally.lock:
                    self._tally.unanswered += 1
                self.stop.wait(0.02)
        connection.close()

    def _call(self, connection: http.client.HTTPConnection) -> None:
        number = next(self._numbers)
        params = {"name": "echo", "arguments": {"n": number}, "_meta": META}
        body = json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})
        headers = {
            "authorization": f"Bearer {self._token}",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": MODERN,
            "mcp-method": "tools/call",
            "mcp-name": "echo",
        }
        connection.request("POST", "/a/mcp", body, headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        code = answer.get("error", {}).get("data", {}).get("code")
        self._tally.note(response.status, response.headers.get("x-postern-execution-id"), code)


class Chaos:
    """One run."""

    def __init__(self, sidecar: Sidecar, postgres: EmbeddedPostgres, choose: random.Random) -> None:
        self.sidecar = sidecar
        self.postgres = postgres
        self.choose = choose
        self.tally = Tally()
        self.kills: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self._numbers = itertools.count(1)
        self._token = sidecar.token("a")

    def round(self, point: str, fault: str | None, passes: int) -> None:
        """Start a proxy that will die at `point` after `passes` passings, and call it to its death."""
        self.sidecar.start_proxy(
            [sys.executable, "-m", "tests.chaos.crashing_proxy"], CRASH_POINT=point, CRASH_AFTER=str(passes)
        )
        callers = [Caller(self.sidecar, self._token, self._numbers, self.tally) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        try:
            if fault is not None:
                time.sleep(0.05)
                self._hurt(fault)
            self._await_death(point)
        finally:
            for caller in callers:
                caller.stop.set()
            for caller in callers:
                caller.join()

    def _await_death(self, point: str) -> None:
        process = self.sidecar.processes.pop("proxy")
        try:
            process.wait(ROUND_LIMIT_S)
            self.kills[point] += 1
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self.kills["by hand"] += 1

    def _hurt(self, fault: str) -> None:
        self.faults[fault] += 1
        if fault == "connections cut":
            asyncio.run(_cut_connections(self.postgres.dsn(SUPERUSER)))
        else:
            self.postgres.stop()
            self.postgres.start()


async def _cut_connections(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for _ in range(5):
            await connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where usename = 'postern_proxy' and pid <> pg_backend_pid()"
            )
            await asyncio.sleep(0.02)
    finally:
        await connection.close()


async def _query(dsn: str, statement: str) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()


def check(chaos: Chaos, recorder: Recorder, auditor: str) -> list[str]:
    """Return the claims that do not hold."""
    rows = asyncio.run(
        _query(auditor, "select execution_id, input, status, upstream_us from audit_log where server = 'a'")
    )
    recorded = {str(row["execution_id"]): row["status"] for row in rows}
    numbers = Counter(json.loads(row["input"])["arguments"]["n"] for row in rows if row["input"])
    seen = Counter(body["params"]["arguments"]["n"] for body in recorder.bodies)
    missing = [key for key in chaos.tally.answered if key not in recorded]
    wrong = [k for k, status in chaos.tally.answered.items() if status == 200 and recorded.get(k) != "success"]
    claims = {
        f"{len(missing)} answers without a row": missing,
        f"{len(wrong)} answers whose row tells another outcome": wrong,
        "calls that a server saw and no row tells of": [n for n in seen if n not in numbers],
        "calls that a server saw twice": [n for n, count in seen.items() if count > 1],
        "calls with two rows": [n for n, count in numbers.items() if count > 1],
    }
    print(f"answers checked {len(chaos.tally.answered)}, rows {len(rows)}, calls seen by the server {len(seen)}")
    print(f"rows by status: {dict(Counter(recorded.values()))}")
    return [f"{claim}: {found[:3]}" for claim, found in claims.items() if found]


def main() -> int:
    """Run, print the counts, say whether every claim holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}: {options.kills} kills over at least {options.requests} requests")
    root = Path(tempfile.mkdtemp(prefix="postern-chaos-"))
    root.chmod(0o711)
    try:
        return _run(options, root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _run(options: argparse.Namespace, root: Path) -> int:
    with EmbeddedPostgres(root / "pg") as postgres, Recorder() as recorder:
        asyncio.run(migrate(postgres.dsn("postern_owner")))
        external = {"type": "external", "endpoint": f"http://127.0.0.1:{recorder.port}/mcp", "tools": {"echo": {}}}
        sidecar = Sidecar(root / "s", postgres.dsn("postern_proxy"), {"a": external})
        chaos = Chaos(sidecar, postgres, random.Random(options.seed))
        try:
            _rounds(chaos, options)
            failures = _settle(chaos, recorder)
        finally:
            sidecar.stop()
    print(
        f"calls {chaos.tally.total}, without an answer {chaos.tally.unanswered}, answers {dict(chaos.tally.statuses)}"
    )
    print(f"kills {dict(chaos.kills)}; database faults {dict(chaos.faults)}")
    for failure in failures:
        print(f"DOES NOT HOLD: {failure}")
    print("every claim holds" if not failures else f"{len(failures)} claims do not hold")
    return 1 if failures else 0


def _rounds(chaos: Chaos, options: argparse.Namespace) -> None:
    share = max(4, options.requests // options.kills)
    faults = [None, None, "connections cut", None, "database restarted"]
    for number in range(10 * options.kills):
        if number >= options.kills and chaos.tally.total >= options.requests:
            return
        point = POINTS[number % len(POINTS)]
        chaos.round(point, faults[number % len(faults)], chaos.choose.randint(share // 2, 2 * share))
        print(f"\rround {number + 1}: {chaos.tally.total} calls", end="" if sys.stdout.isatty() else "\n", flush=True)
    raise SystemExit("the run did not reach its number of requests within ten times its rounds")


def _settle(chaos: Chaos, recorder: Recorder) -> list[str]:
    """Let an ordinary proxy close what was interrupted; then check the tables, and the chains with the auditor's tool."""
    chaos.sidecar.start_proxy()
    auditor = chaos.postgres.dsn("postern_auditor")

    def all_closed() -> bool:
        return not asyncio.run(_query(auditor, "select 1 from audit_reached where status = 'open' limit 1"))

    wait_for(all_closed, "every intent has its row", limit_s=90)
    failures = check(chaos, recorder, auditor)
    kept = chaos.sidecar.state / "audit"
    proofs = ["--key", str(kept / "audit-signing-key.pub"), "--checkpoints", str(kept / "checkpoints.jsonl")]
    verified = subprocess.run(
        [sys.executable, "-m", "registry.cli", "audit", "--dsn", auditor, "verify", *proofs],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )
    print(verified.stdout.strip())
    return failures if verified.returncode == 0 else [*failures, f"audit verify: {verified.stdout}{verified.stderr}"]


if __name__ == "__main__":
    sys.exit(main())
