"""The members of a fleet as the listener looks after them: servers with a process, servers elsewhere, and the proxy."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from registry.models import Fleet, Server
from registry.secrets import SecretError, resolve
from supervisor_plugin.exchange import ProbeError
from supervisor_plugin.health import McpProbe, Probe, ProxyProbe
from supervisor_plugin.names import PROXY
from supervisor_plugin.paths import Paths
from supervisor_plugin.processes import binary_identity
from supervisor_plugin.reconcile import Declared
from supervisor_plugin.states import Policy

BRIDGE_HEADER = "x-postern-bridge"
PROXY_START_S = 30.0


@dataclass(frozen=True, slots=True)
class Unit:
    """One member. `definition` digests what its process depends on; `identify` adds the files as they are now."""

    name: str
    kind: Literal["internal", "external", "proxy"]
    port: int | None
    policy: Policy
    mode: Literal["fresh", "adopt"]
    definition: str
    command: tuple[str, ...]
    cwd: str | None
    search_path: str
    make_probe: Callable[[], Probe]
    is_loopback_only: bool = False

    def identify(self) -> str:
        """Return the identity of its program; raises OSError with the reason if it cannot be executed."""
        if self.kind != "internal":
            return self.definition
        files = binary_identity(self.command, self.cwd, self.search_path)
        return _digest([self.definition, files])

    def declared(self) -> Declared:
        """Return what the plan compares; a program that cannot be found has an identity that nothing else has."""
        try:
            binary = self.identify()
        except OSError as error:
            binary = f"missing: {error}"
        return Declared(self.name, self.kind, None if self.kind == "external" else binary, self.mode)


def server_policy(server: Server) -> Policy:
    """Take the registry's numbers."""
    health, lifecycle = server.health, server.lifecycle
    return Policy(
        interval_s=health.interval_s,
        failures=health.failures,
        start_attempts=health.start_attempts,
        start_budget_s=health.start_budget_s,
        stop_grace_s=lifecycle.stop_grace_s,
        drain_s=lifecycle.drain_s,
        backoff_s=lifecycle.restart_backoff_s,
        backoff_max_s=lifecycle.restart_backoff_max_s,
        crash_limit=lifecycle.crash_limit,
        crash_window_s=lifecycle.crash_window_s,
    )


def make_units(fleet: Fleet, paths: Paths, environ: Mapping[str, str], *, with_proxy: bool) -> dict[str, Unit]:
    """Return every enabled member by name."""
    units = {server.name: _server_unit(server, fleet, paths, environ) for server in fleet.enabled_servers()}
    if with_proxy:
        units[PROXY] = _proxy_unit(fleet)
    return units


def _server_unit(server: Server, fleet: Fleet, paths: Paths, environ: Mapping[str, str]) -> Unit:
    is_internal = server.type == "internal"
    url = f"http://127.0.0.1:{server.port}{server.path}" if is_internal else server.endpoint or ""
    is_bridged = is_internal and server.transport == "stdio"
    headers = _bridge_headers(server, paths) if is_bridged else _upstream_headers(server, fleet, paths, environ)
    return Unit(
        name=server.name,
        kind=server.type,
        port=server.port if is_internal else None,
        policy=server_policy(server),
        mode=server.lifecycle.reconcile,
        definition=_definition(server),
        command=server.command,
        cwd=server.cwd or str(paths.registry.parent),
        search_path=environ.get("PATH", os.defpath),
        make_probe=lambda: McpProbe(url, server.health.timeout_s, headers),
        is_loopback_only=is_internal and not server.lifecycle.beyond_loopback,
    )


def _bridge_headers(server: Server, paths: Paths) -> Callable[[], Mapping[str, str]]:
    def headers() -> Mapping[str, str]:
        try:
            return {BRIDGE_HEADER: paths.bridge_token(server.name).read_text(encoding="ascii").strip()}
        except OSError:
            return {}  # not launched yet: nothing listens, either

    return headers


def _upstream_headers(
    server: Server, fleet: Fleet, paths: Paths, environ: Mapping[str, str]
) -> Callable[[], Mapping[str, str]]:
    def headers() -> Mapping[str, str]:
        try:
            return {header.name: value(header.value) for header in server.headers}
        except SecretError as error:
            raise ProbeError(f"its credentials cannot be read: {error}") from error

    def value(reference: str) -> str:
        is_dev = fleet.fleet.mode == "dev"
        return resolve(reference, base=paths.registry.parent, environ=environ, allow_literal=is_dev).text()

    return headers


def _proxy_unit(fleet: Fleet) -> Unit:
    listen = fleet.proxy
    policy = Policy(
        interval_s=5.0, start_attempts=100, start_budget_s=PROXY_START_S, stop_grace_s=listen.drain_s + 5, drain_s=0.1
    )
    url = f"http://{'127.0.0.1' if listen.host in ('0.0.0.0', '::') else listen.host}:{listen.port}"  # noqa: S104
    return Unit(
        name=PROXY,
        kind="proxy",
        port=listen.port,
        policy=policy,
        mode="adopt",
        definition=_digest([listen.host, listen.port, listen.workers]),
        command=(),
        cwd=None,
        search_path="",
        make_probe=lambda: ProxyProbe(url, 5.0),
    )


def _definition(server: Server) -> str:
    """Digest what a change of makes a restart necessary: not keys, scopes or texts, which the proxy reads itself."""
    lifecycle = server.lifecycle
    return _digest(
        [
            server.transport, server.port, server.path, server.endpoint, server.command, server.cwd,
            {name: variable.value for name, variable in server.env.items()},
            [lifecycle.user, lifecycle.memory_bytes, lifecycle.open_files, lifecycle.beyond_loopback],
            server.bridge.model_dump(mode="json") if server.transport == "stdio" else None,
        ]
    )  # fmt: skip


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]
