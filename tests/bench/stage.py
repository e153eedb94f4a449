"""Everything that is measured, running side by side on loopback: PostgreSQL, upstreams, comparison proxies, Postern."""

import asyncio
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from registry.database.embedded import EmbeddedPostgres
from registry.database.migrations import migrate
from tests.bench import nginx
from tests.bench.message import EraName, Message, call, initialize
from tests.bench.placement import Placement, on
from tests.bench.wrk import INSTALL, MissingToolError
from tests.ports import free_port
from tests.sidecar import ISSUER, Answer, Sidecar, http, listens, wait_for

DAY_S = 86_400
SCOPES = ("fast:use", "fast:read")
Name = Literal["direct", "nginx", "njs", "forwarder", "postern", "unaudited", "sdk", "postern_sdk"]
LABELS: dict[Name, str] = {
    "direct": "upstream direct",
    "nginx": "nginx, plain reverse proxy",
    "njs": "nginx + njs: token, scope, JSON",
    "forwarder": "Starlette + httpx2 forwarder",
    "postern": "**Postern**, every call audited",
    "unaudited": "Postern without its audit",
    "sdk": "MCP SDK server direct",
    "postern_sdk": "Postern in front of it",
}


@dataclass(frozen=True)
class Target:
    """One address under load. `roots` are the processes whose work counts as the target's."""

    name: str
    url: str
    token: str | None
    roots: tuple[int, ...]
    sessions: dict[EraName, str] = field(default_factory=dict[EraName, str])
    body_bytes: int = 1024
    many_sessions: tuple[str, ...] = ()
    """Where there are any, each call is one of the next of these."""

    def message(self, era: EraName, rpc_id: int = 1) -> Message:
        """Return the call as this target's client sends it."""
        made = call(era, self.body_bytes, rpc_id, self.sessions.get(era))
        if self.token is None:
            return made
        return Message(made.headers | {"authorization": f"Bearer {self.token}"}, made.body)

    def open_session(self) -> None:
        """Open a session of the older era, as its clients do, where the server gives one."""
        opening = initialize()
        headers = opening.headers | ({"authorization": f"Bearer {self.token}"} if self.token else {})
        answer = http("POST", self.url, headers, opening.body)
        if answer.status != 200:
            raise AssertionError(f"{self.name} does not initialize: {answer.status} {answer.body!r}")
        if session := answer.headers.get("mcp-session-id"):
            self.sessions["2025-11-25"] = session

    def ask(self, era: EraName) -> Answer:
        """Send the call once."""
        made = self.message(era)
        return http("POST", self.url, made.headers, made.body)


class Stage:
    """Use as a context manager; everything is ended, by pid, at its exit."""

    def __init__(self, placement: Placement) -> None:
        self.placement = placement
        self.targets: dict[str, Target] = {}
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.sidecars: list[Sidecar] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start what all targets need. SIGTERM, too, ends everything that was started."""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="postern-bench-"))
        self.root.chmod(0o711)
        self._stack.callback(shutil.rmtree, self.root, ignore_errors=True)
        with on(self.placement.rest):
            self.postgres = self._stack.enter_context(EmbeddedPostgres(self.root / "pg"))
            asyncio.run(migrate(self.postgres.dsn("postern_owner")))
            self.fast = self.start_server("upstream", "tests.bench.upstream")

    def add_all(self) -> None:
        """Start every target of the big table."""
        with on(self.placement.rest):
            self.sdk = self.start_server("sdk", "tests.bench.sdk_server")
        self._add("direct", self.fast, "upstream")
        self._add("sdk", self.sdk, "sdk")
        with on(self.placement.target):
            self.sidecar = self.add_postern("postern")
            self.add_postern("unaudited", [sys.executable, "-m", "tests.bench.unaudited"])
            self.add_comparisons()
        for target in self.targets.values():
            target.open_session()

    def _add(self, name: Name, port: int, process: str, token: str | None = None) -> None:
        url = f"http://127.0.0.1:{port}/mcp"
        self.targets[name] = Target(name, url, token, (self.processes[process].pid,))

    def start_server(self, name: str, module: str, *arguments: str) -> int:
        """Start a server of ours, which prints its port; return that."""
        command = [sys.executable, "-m", module, *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        self.own(name, process)
        assert process.stdout is not None
        return int(process.stdout.readline())

    def own(self, name: str, process: subprocess.Popen[str]) -> None:
        """End the process with the stage."""
        self.processes[name] = process
        self._stack.callback(_end, process)

    def add_comparisons(self) -> None:
        """Start nginx twice and the plain forwarder; raise MissingToolError where nginx is not installed."""
        module = nginx.find_module()
        if module is None:
            raise MissingToolError(f"missing: njs for nginx. Debian, Ubuntu: {INSTALL}")
        port = free_port()
        self._start_nginx("nginx", nginx.write_plain(self.root / "nginx", port, self.fast), port)
        port = free_port()
        token = self.targets["postern"].token
        policy = nginx.Policy(self.sidecar.keys["fast"], ISSUER, self.targets["postern"].url, SCOPES)
        self._start_nginx("njs", nginx.write_checked(self.root / "njs", port, self.fast, module, policy), port, token)
        upstream = f"http://127.0.0.1:{self.fast}/mcp"
        port = self.start_server("forwarder", "tests.bench.forwarder", "--upstream", upstream)
        self._add("forwarder", port, "forwarder")

    def _start_nginx(self, name: Name, configuration: Path, port: int, token: str | None = None) -> None:
        command = ["nginx", "-c", str(configuration), "-e", str(configuration.with_name("error.log"))]
        self.own(name, subprocess.Popen(command, stdin=subprocess.DEVNULL, text=True))
        wait_for(lambda: listens(port), f"{name} listens: {configuration.with_name('error.log')}")
        self._add(name, port, name, token)

    def add_postern(
        self,
        name: str,
        argv: list[str] | None = None,
        *,
        servers: dict[str, dict[str, Any]] | None = None,
        more: dict[str, Any] | None = None,
        dsn: str | None = None,
        **environment: str,
    ) -> Sidecar:
        """Start Postern with these servers behind it (else the fast one, and the SDK's where it runs).

        The target is its first server.
        """
        if servers is None:
            servers = {"fast": section(self.fast, SCOPES)}
            if "sdk" in self.processes and name == "postern":
                servers["sdk"] = section(self.sdk, ("sdk:use",))
        registry = registry_of(servers, more or {})
        sidecar = Sidecar(self.root / name, dsn or self.postgres.dsn("postern_proxy"), servers, registry=registry)
        self.sidecars.append(sidecar)
        self._stack.callback(sidecar.stop)
        pin_tools(sidecar)
        sidecar.start_proxy(argv, **environment)
        pid, first = sidecar.processes["proxy"].pid, next(iter(servers))
        self.targets[name] = Target(name, f"{sidecar.url}/{first}/mcp", token(sidecar, first, SCOPES), (pid,))
        if "sdk" in servers:
            own = token(sidecar, "sdk", ("sdk:use",))
            self.targets["postern_sdk"] = Target("postern_sdk", f"{sidecar.url}/sdk/mcp", own, (pid,))
        return sidecar


def pin_tools(sidecar: Sidecar) -> None:
    """Lock what the servers offer, so that arguments and results are checked against their schemas."""
    command = [sys.executable, "-m", "registry.cli", "lock"]
    done = subprocess.run(command, env=sidecar.environment(), capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise AssertionError(f"postern lock: {done.stdout}{done.stderr}")


def section(port: int, scopes: tuple[str, ...]) -> dict[str, Any]:
    """Return the registry section of a server on loopback: one scope for the server, the others for its tool."""
    return {
        "type": "external",
        "endpoint": f"http://127.0.0.1:{port}/mcp",
        "oauth": {"scopes": [scopes[0]]},
        "tools": {"echo": {"scopes": list(scopes[1:])}},
    }


def registry_of(servers: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Return the rest of the registry: the caller is an agent that may call the one tool of each server."""
    reach = {name: {"tools": list(given["tools"])} for name, given in servers.items()}
    return {"agents": {"bench": {"subjects": ["ada"], "servers": reach}}, **more}


def token(sidecar: Sidecar, server: str, scopes: tuple[str, ...]) -> str:
    """Return a token that outlives the run."""
    return sidecar.token(server, " ".join(scopes), exp=int(time.time()) + DAY_S)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
