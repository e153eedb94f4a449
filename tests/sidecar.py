"""A sidecar of real parts for tests: registry file, secrets, bridges and servers as processes, and `postern proxy`.

No supervisord here: each process can be killed and started again by the test. tests/acceptance/test_up.py covers the
fleet as operators run it.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import yaml

from tests.ports import free_port

ISSUER = "https://issuer.test"
MODERN = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
}


def wait_for(condition, what: str, limit_s: float = 60.0) -> Any:
    """Poll until `condition()` is true; fail with `what` after the limit."""
    deadline = time.monotonic() + limit_s
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit_s:g} s: {what}")
        time.sleep(0.02)


@dataclass
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the JSON document, also when it came as the only event of a stream."""
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            data = [line[5:].strip() for line in self.body.decode().splitlines() if line.startswith("data:")]
            return json.loads(next(item for item in reversed(data) if item))
        return json.loads(self.body)


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A test wants to see a redirect, not follow it."""

    def redirect_request(self, *_args: object, **_kwargs: object) -> None:
        return None


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect)


def http(method: str, url: str, headers: dict[str, str] | None = None, body: bytes | None = None) -> Answer:
    """Send one request; an error status is an answer, not an exception."""
    request = urllib.request.Request(url, data=body, method=method, headers=headers or {})
    try:
        with _OPENER.open(request, timeout=30) as response:
            return Answer(response.status, {k.lower(): v for k, v in response.headers.items()}, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())


@dataclass
class Sidecar:
    """`servers` maps a name to its section of the registry, of which port, keys and audience are filled in."""

    root: Path
    dsn: str
    servers: dict[str, dict[str, Any]]
    registry: dict[str, Any] = field(default_factory=dict)
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.state = self.root / "state"
        for name in ("keys", "bridge", "logs"):
            (self.state / name).mkdir(parents=True, exist_ok=True)
        self.state.chmod(0o700)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.file = self.root / "postern.yaml"
        self.keys = {name: secrets.token_hex(32) for name in self.servers}
        for name, section in self.servers.items():
            self._complete(name, section)
        self.write_registry()

    def _complete(self, name: str, section: dict[str, Any]) -> None:
        key = self.state / "keys" / f"{name}.key"
        key.write_text(self.keys[name], encoding="utf-8")
        key.chmod(0o600)
        section.setdefault("display_name", name.title())
        section.setdefault("description", f"{name} for tests")
        if section.get("type", "internal") == "internal":
            section.setdefault("port", free_port())
        oauth = section.setdefault("oauth", {})
        oauth.setdefault("issuer", ISSUER)
        if oauth.get("required", True):
            oauth.setdefault("scopes", [f"{name}:use"])
        if "jwks" not in oauth:
            oauth.setdefault("keys", [{"kid": "k1", "secret": f"file:{key}"}])

    def write_registry(self) -> None:
        """Write the registry file as it is now."""
        ports = {"first": 1024, "last": 65535}
        document = {
            "version": 1,
            "fleet": {"name": "test", "ports": ports},
            "proxy": {"port": self.port, **self.registry.get("proxy", {})},
            "servers": self.servers,
            **{key: value for key, value in self.registry.items() if key != "proxy"},
        }
        self.file.write_text(yaml.safe_dump(json.loads(json.dumps(document)), sort_keys=False), encoding="utf-8")

    def environment(self) -> dict[str, str]:
        """Return what every process of the sidecar is told."""
        own = {"POSTERN_REGISTRY": str(self.file), "POSTERN_STATE_DIR": str(self.state), "DATABASE_URL": self.dsn}
        kept = {k: v for k, v in os.environ.items() if k in {"PATH", "HOME", "LANG", "PYTHONPATH"}}
        return {**kept, **own}

    def start(self, name: str, argv: list[str], **more: str) -> "subprocess.Popen[bytes]":
        """Start a process whose output goes to a log of its own."""
        log = (self.state / "logs" / f"{name}.log").open("ab")
        with log:
            process = subprocess.Popen(
                argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={**self.environment(), **more}
            )
        self.processes[name] = process
        return process

    def start_bridge(self, name: str) -> None:
        """Start the bridge of a stdio server."""
        section = self.servers[name]
        token = self.state / "bridge" / f"{name}.token"
        if not token.exists():
            token.write_text(secrets.token_hex(32), encoding="utf-8")
            token.chmod(0o600)
        own = ["--name", name, "--host", "127.0.0.1", "--port", str(section["port"]), "--token-file", str(token)]
        self.start(f"bridge-{name}", [sys.executable, "-m", "proxy.bridge", *own, "--", *section["command"]])
        wait_for(lambda: listens(section["port"]), f"bridge of {name} listens: {self.log(f'bridge-{name}')}")

    def start_proxy(self, argv: list[str] | None = None, **more: str) -> None:
        """Start the proxy, or what a test puts in its place, and wait until it is ready."""
        process = self.start("proxy", argv or [sys.executable, "-m", "registry.cli", "proxy"], **more)

        def ready() -> bool:
            assert process.poll() is None, self.log("proxy")
            return listens(self.port) and http("GET", f"{self.url}/readyz").status == 200

        wait_for(ready, "the proxy is ready")

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Signal a process of ours and wait for its end."""
        process = self.processes.pop(name)
        process.send_signal(number)
        return process.wait(timeout=30)

    def stop(self) -> None:
        """End everything."""
        for name in reversed(list(self.processes)):
            self.kill(name, signal.SIGTERM)

    def log(self, name: str) -> str:
        """Return what a process has written."""
        return (self.state / "logs" / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def token(self, server: str, scope: str | None = None, **claims: Any) -> str:
        """Return a token as the server's issuer would sign it; a claim set to None is left out."""
        scope = f"{server}:use" if scope is None else scope
        now = int(time.time())
        base = {
            "iss": ISSUER,
            "aud": f"{self.url}/{server}/mcp",
            "sub": "ada",
            "client_id": "cli",
            "scope": scope,
            "iat": now,
            "exp": now + 600,
        }
        payload = {key: value for key, value in {**base, **claims}.items() if value is not None}
        return jwt.encode(payload, self.keys[server], algorithm="HS256", headers={"kid": "k1"})

    def post(self, server: str, message: Any, token: str | None = None, **headers: str) -> Answer:
        """POST one message as a legacy client would; keyword `mcp_session_id` becomes the header of that name."""
        sent = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["authorization"] = f"Bearer {token}"
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        return http("POST", f"{self.url}/{server}/mcp", sent, body)

    def call(self, server: str, tool: str, arguments: dict[str, Any], token: str | None, rpc_id: int = 1) -> Answer:
        """Call a tool as a 2026-07-28 client would."""
        message = {
            "jsonrpc": "2.0",
            "id": rpc_id,
            "method": "tools/call",
            "params": {"name": tool, "arguments": arguments, "_meta": META},
        }
        mirrored = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": tool}
        return self.post(server, message, token, **mirrored)


def listens(port: int) -> bool:
    """Say whether something accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
