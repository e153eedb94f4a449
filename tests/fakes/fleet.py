"""A whole fleet for tests: real supervisord, real listener, real servers, in a private directory that is left empty.

No proxy unless a test asks for one. Everything that carries the fleet's mark is ended at the end, whatever a test did.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from registry.database.pool import connection
from registry.loader import load
from supervisor_plugin.client import SupervisorClient, SupervisordError
from supervisor_plugin.config import supervisorctl_argv, supervisord_argv, write_supervisord_config
from supervisor_plugin.guardian import end_fleet
from supervisor_plugin.paths import Paths, instance_id, prepare, write_private
from supervisor_plugin.processes import Marked, marked_processes
from tests.fixtures_postgres import run_apart
from tests.ports import free_port

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
QUICK: dict[str, Any] = {
    "health": {"interval_s": 0.3, "timeout_s": 1.0, "failures": 3, "start_budget_s": 8.0},
    "lifecycle": {
        "stop_grace_s": 1.0, "drain_s": 1.0, "restart_backoff_s": 0.2, "restart_backoff_max_s": 1.0,
        "crash_limit": 4, "crash_window_s": 30.0,
    },
}  # fmt: skip


def wait_for(condition: Callable[[], T | None], what: str, limit_s: float = 20.0, poll_s: float = 0.05) -> T:
    """Poll until there is something; fail with `what` after the limit."""
    deadline = time.monotonic() + limit_s
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit_s:g} s: {what}")
        time.sleep(poll_s)


@dataclass
class TestFleet:
    """One fleet; `dsn` is its database. `with` starts nothing and leaves nothing."""

    dsn: str
    host: str = "test-host"
    base: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="pf-")))
    servers: dict[str, dict[str, Any]] = field(default_factory=dict)
    proxy: tuple[str, ...] | None = None
    proxy_port: int = 0
    environ: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None
    __test__ = False

    def __enter__(self) -> Self:
        prepare(self.paths)
        write_private(self.base / "dsn", self.dsn)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.kill_everything()
        finally:
            shutil.rmtree(self.base, ignore_errors=True)

    @property
    def paths(self) -> Paths:
        return Paths(state=self.base / "s", registry=self.base / "postern.yaml", dsn_file=self.base / "dsn")

    @property
    def instance(self) -> str:
        return instance_id(self.paths)

    # What is declared

    def add(self, name: str, *modes: str, **changes: Any) -> int:
        """Declare a tiny server and return its port."""
        port = free_port()
        if "other-port" in modes:
            free_port()  # the one that it takes instead, which no other server may have
        argv = [sys.executable, "-m", "tests.fakes.tiny_mcp", "--port", "{port}", "--mode", ",".join(modes)]
        server: dict[str, Any] = {
            "display_name": name, "description": f"the tiny server {name}", "port": port, "command": argv,
            "cwd": str(ROOT), "oauth": {"required": False}, **QUICK,
            "env": {"PID_FILE": str(self.base / f"{name}.pids"), "MOOD_FILE": str(self.base / f"{name}.mood")},
        }  # fmt: skip
        for key, value in changes.items():
            server[key] = {**server.get(key, {}), **value} if isinstance(value, dict) else value
        self.servers[name] = server
        return server["port"]

    def cure(self, name: str) -> None:
        """Declare a tiny server without its bad habits."""
        words = self.servers[name]["command"]
        self.servers[name]["command"] = [*words[: words.index("--mode")], "--mode", ""]

    def add_proxy(self) -> None:
        """Run something in the place of the proxy that answers its health addresses."""
        self.proxy_port = free_port()
        argv = (sys.executable, "-m", "tests.fakes.tiny_mcp", "--port", str(self.proxy_port), "--mode", "proxy")
        self.proxy, self.environ["PYTHONPATH"] = argv, str(ROOT)

    def mood(self, name: str, mood: str) -> None:
        (self.base / f"{name}.mood").write_text(mood)

    def declare(self, text: str | None = None) -> None:
        """Write the registry file."""
        fleet: dict[str, Any] = {
            "version": 1, "fleet": {"ports": {"first": 20_000, "last": 29_999}}, "servers": self.servers
        }  # fmt: skip
        if self.proxy_port:
            fleet["proxy"] = {"port": self.proxy_port, "drain_s": 1.0}
        self.paths.registry.write_text(json.dumps(fleet, indent=1) if text is None else text)

    # What runs

    def start(self) -> None:
        """Write everything and start supervisord."""
        self.declare()
        loaded = load(self.paths.registry)
        assert loaded.fleet is not None, loaded.problems
        write_supervisord_config(loaded.fleet, self.paths, proxy=self.proxy)
        self.start_supervisord()

    def start_supervisord(self) -> None:
        with (self.base / "supervisord.out").open("ab") as output:
            self.process = subprocess.Popen(
                supervisord_argv(self.paths),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "POSTERN_HOST": self.host, "TEST_SECRET": "not for servers", **self.environ},
                process_group=0,
            )

    def stop(self, limit_s: float = 30.0) -> float:
        """Stop supervisord as an operator does; return how long it took."""
        assert self.process is not None
        started = time.monotonic()
        self.process.terminate()
        assert self.process.wait(limit_s) == 0, self.log("supervisord")
        return time.monotonic() - started

    def kill_supervisord(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def kill_everything(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        if (pid := self.listener_pid_of_lock()) is not None:
            kill(pid, signal.SIGKILL)
        end_fleet(self.instance, 0.2)

    def listener_pid_of_lock(self) -> int | None:
        """The listener carries the fleet's mark, but no server's."""
        mark = f"POSTERN_FLEET={self.instance}".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    raw = (entry / "environ").read_bytes().split(b"\0")
                    command = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if mark in raw and b"supervisor_plugin.listener" in command:
                    return int(entry.name)
        return None

    # What is seen

    def status(self) -> dict[str, Any] | None:
        """What `fleet status` shows; whenever a test looks, no server may be called running without its process."""
        try:
            status = run_apart(SupervisorClient(self.paths.socket).status())
        except SupervisordError:
            return None
        for server in status["servers"]:
            is_claimed = server.get("supervised") and (server["can_route"] or server["status"] == "running")
            assert not is_claimed or server["pid"] == server["of_pid"] != 0, server
        return status

    def server(self, name: str) -> dict[str, Any]:
        status = self.status() or {"servers": []}
        return next((server for server in status["servers"] if server["name"] == name), {})

    def wait(self, name: str, status: str, limit_s: float = 20.0, **also: Any) -> dict[str, Any]:
        """Wait until a server has this status, and these values besides."""

        def found() -> dict[str, Any] | None:
            server = self.server(name)
            return server if server.get("status") == status and also.items() <= server.items() else None

        try:
            return wait_for(found, f"{name} is {status} {also}", limit_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {self.server(name)}\n{self.log('postern-fleet')}") from error

    def wait_all(self, status: str = "running", limit_s: float = 30.0) -> None:
        for name in self.servers:
            self.wait(name, status, limit_s)

    def ctl(self, *words: str, limit_s: float = 60.0) -> "subprocess.CompletedProcess[str]":
        """Run supervisorctl."""
        return subprocess.run(
            supervisorctl_argv(self.paths, *words), capture_output=True, text=True, timeout=limit_s, check=False
        )

    def marked(self) -> list[Marked]:
        """Every process of this fleet's servers, wherever it hangs in the process tree."""
        return marked_processes(self.instance)

    def rows(self, query: str = "select * from services order by server", *arguments: Any) -> list[dict[str, Any]]:
        async def fetch() -> list[dict[str, Any]]:
            async with connection(self.dsn) as database:
                return [dict(row.items()) for row in await database.fetch(query, *arguments)]

        return run_apart(fetch())

    def row(self, name: str) -> dict[str, Any]:
        return next((row for row in self.rows() if row["server"] == name), {})

    def wait_row(self, name: str, limit_s: float = 15.0, **values: Any) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            row = self.row(name)
            return row if row and values.items() <= row.items() else None

        return wait_for(found, f"the row of {name} has {values}", limit_s)

    def log(self, name: str) -> str:
        files = [self.paths.logs / f"{name}.log", self.paths.logs / f"{name}.err"]
        return "\n".join(file.read_text(errors="replace")[-6000:] for file in files if file.exists())

    def log_size(self, name: str) -> int:
        return (self.paths.logs / f"{name}.log").stat().st_size

    def log_since(self, name: str, seen: int, server: str) -> str:
        """Return the lines about a server that a log has got since it had this size."""
        with (self.paths.logs / f"{name}.log").open("rb") as file:
            file.seek(seen)
            lines = file.read().decode(errors="replace").splitlines()
        return "\n".join(line for line in lines if f" {server}: " in line)

    def is_exactly_declared(self) -> None:
        """Assert what every fault test ends with: declared = supervised = marked = recorded, and nothing else."""
        status = self.status()
        assert status is not None
        running = {server["name"]: server["pid"] for server in status["servers"] if server.get("pid")}
        assert running.keys() == self.servers.keys()
        assert all(server["status"] == "running" for server in status["servers"]), status["servers"]
        for name, pid in running.items():
            self.wait_row(name, pid=pid, status="running", can_route=True)
        assert {row["server"] for row in self.rows()} == self.servers.keys()
        runs = {process.run.split("-")[0] for process in self.marked()}
        assert runs == {str(pid) for pid in running.values()}


def kill(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rsplit(b")", 1)[1].split()[0] != b"Z"
    except OSError:
        return False


def run_all(works: Sequence[Callable[[], object]]) -> None:
    """Do several slow things at once."""

    async def together() -> None:
        await asyncio.gather(*(asyncio.to_thread(work) for work in works))

    run_apart(together())


def parse_json(text: str) -> Any:
    return json.loads(text)
