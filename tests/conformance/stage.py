"""What the suite is run against, side by side on loopback: upstreams direct, and the same upstreams through Postern."""

import asyncio
import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from registry.database.embedded import EmbeddedPostgres
from registry.database.migrations import migrate
from tests.conformance import suite
from tests.conformance.parts import HIDDEN, HIDING_SCOPE, Part, Road, UpstreamName
from tests.ports import free_port
from tests.sidecar import Sidecar, http, listens, wait_for

OUTPUT: Final = suite.HOME / "results"
SERVERS_LOG: Final = OUTPUT / "servers.log"
# Streams from the first moment and polling, so that the scenarios about them have something to test.
BRIDGE_OPTIONS: Final = ("--events-after-s", "0.001", "--poll-s", "0.2")
# Every scenario breaks a rule now and then, all from one address: a flood of refusals is another test's subject.
REGISTRY: Final = {"audit": {"refusals_per_source": 1_000_000}}
HOUR_S: Final = 3600
PING: Final = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


@dataclass(frozen=True, slots=True)
class Target:
    """An address and the headers that open it."""

    name: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


@dataclass(frozen=True, slots=True)
class Upstream:
    """A server's commands. `http_variables` choose its port where no argument does."""

    stdio: tuple[str, ...]
    http: tuple[str, ...]
    http_variables: Mapping[str, str]


def upstream(name: UpstreamName, port: int) -> Upstream:
    """Our fixture, or the reference server of the protocol's authors (legacy era only)."""
    if name == "fixture":
        fixture = (sys.executable, "-m", "tests.fakes.everything")
        return Upstream(fixture, (*fixture, "--port", str(port)), {})
    reference = (str(suite.node_home() / "bin/node"), str(suite.REFERENCE_SERVER.resolve()))
    return Upstream((*reference, "stdio"), (*reference, "streamableHttp"), {"PORT": str(port)})


@contextlib.contextmanager
def database() -> Generator[tuple[Path, str]]:
    """A private directory, and the address of a migrated PostgreSQL in it for the proxy's role."""
    root = Path(tempfile.mkdtemp(prefix="postern-conformance-"))
    root.chmod(0o711)
    try:
        with EmbeddedPostgres(root / "pg") as postgres:
            asyncio.run(migrate(postgres.dsn("postern_owner")))
            yield root, postgres.dsn("postern_proxy")
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def listening(command: Sequence[str], port: int, variables: Mapping[str, str]) -> Generator[str]:
    """A server process that accepts connections on a port; its address with the host name that the suite wants."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with SERVERS_LOG.open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **variables}
        )
    try:
        wait_for(lambda: listens(port) or process.poll() is not None, f"{' '.join(command)} listens", 60)
        if process.poll() is not None:
            raise SystemExit(f"{' '.join(command)} does not start: see {SERVERS_LOG}")
        yield f"http://localhost:{port}/mcp"
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def direct(name: UpstreamName) -> Generator[Target]:
    """An upstream with nothing in front of it."""
    with started(name) as url:
        yield Target(f"{name}-direct", url)


@contextlib.contextmanager
def started(name: UpstreamName) -> Generator[str]:
    """An upstream over HTTP, on a port of its own."""
    port = free_port()
    server = upstream(name, port)
    with listening(server.http, port, server.http_variables) as url:
        yield url


@contextlib.contextmanager
def through_postern(parts: Sequence[Part], root: Path, dsn: str) -> Generator[dict[str, Target]]:
    """One Postern in front of a server for each part, every server a process of its own."""
    with contextlib.ExitStack() as stack:
        sections = {part.name: _section(part, stack) for part in parts}
        sidecar = Sidecar(root / "sidecar", dsn, sections, REGISTRY)
        stack.callback(keep_log, sidecar, OUTPUT / "proxy.log")
        stack.callback(sidecar.stop)
        for part in parts:
            if part.road is Road.STDIO:
                _start_bridge(sidecar, part.name)
        sidecar.start_proxy()
        behind = {part.name: target(sidecar, part.name) for part in parts}
        for each in behind.values():
            _check_that_it_is_locked(each)
        yield behind


def target(sidecar: Sidecar, name: str) -> Target:
    """A server behind a sidecar, with a token that is good for the whole run."""
    token = sidecar.token(name, exp=int(time.time()) + HOUR_S)
    return Target(name, f"http://localhost:{sidecar.port}/{name}/mcp", {"authorization": f"Bearer {token}"})


def _check_that_it_is_locked(reached: Target) -> None:
    """Authorization is on: without a token nothing of what follows would be answered."""
    status = http("POST", reached.url, {"content-type": "application/json"}, PING).status
    if status != HTTPStatus.UNAUTHORIZED:
        raise SystemExit(f"{reached.name} answers {status} to a request without a token")


def keep_log(sidecar: Sidecar, file: Path) -> None:
    """Keep what the proxy wrote, if it came to that; its directory goes."""
    if (sidecar.state / "logs" / "proxy.log").exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(sidecar.log("proxy"), encoding="utf-8")


def everything_declared(hidden: str | None = None) -> dict[str, Any]:
    """What a section of the registry says where all that a server has may be used, but one tool."""
    tools: dict[str, Any] = {"*": {}} | ({hidden: {"scopes": [HIDING_SCOPE]}} if hidden else {})
    return {"tools": tools, "prompts": {"*": {}}, "resources": {"*": {}}}


def _section(part: Part, stack: contextlib.ExitStack) -> dict[str, Any]:
    declared = everything_declared(HIDDEN if part.hides else None)
    if part.road is Road.STDIO:
        return {**declared, "transport": "stdio", "command": list(upstream(part.upstream, 0).stdio)}
    url = stack.enter_context(started(part.upstream))
    return {**declared, "type": "external", "endpoint": url.replace("localhost", "127.0.0.1")}


def _start_bridge(sidecar: Sidecar, name: str) -> None:
    section = sidecar.servers[name]
    token = sidecar.state / "bridge" / f"{name}.token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32), encoding="utf-8")
    own = ["--name", name, "--port", str(section["port"]), "--token-file", str(token), *BRIDGE_OPTIONS]
    sidecar.start(f"bridge-{name}", [sys.executable, "-m", "proxy.bridge", *own, "--", *section["command"]])
    wait_for(lambda: listens(section["port"]), f"the bridge of {name} listens: {sidecar.log(f'bridge-{name}')}")
