"""A real bridge process and a plain HTTP client for it, for tests."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import httpx2

Json: TypeAlias = dict[str, Any]

TOKEN: Final = "a-token-for-tests"
MODERN: Final = "2026-07-28"
META: Final[Json] = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}
TINY: Final = (sys.executable, "-m", "tests.fakes.tiny")


def wait_until(condition: Callable[[], object], limit_s: float = 10.0) -> None:
    """Poll until true; AssertionError when the time is up."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    """The processes below one, the one itself not among them."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
    found = [pid]
    for known in found:
        found += [child for child, parent in parents.items() if parent == known]
    return found[1:]


@dataclass
class Bridge:
    """A running bridge; `http` shows the token on every request."""

    process: "subprocess.Popen[bytes]"
    url: str
    log: Path
    http: httpx2.Client

    def modern(self, method: str, params: Mapping[str, Any] | None = None, **more: Any) -> httpx2.Response:
        """One request of the modern era. `request_id`, `meta` and `headers` are for the tests that need them."""
        body, headers = modern_request(method, params, **more)
        return self.http.post(self.url, json=body, headers=headers)

    def call(self, tool: str, /, arguments: Json | None = None, **more: Any) -> httpx2.Response:
        return self.modern("tools/call", {"name": tool, "arguments": arguments or {}}, **more)

    def text(self, tool: str, /, arguments: Json | None = None, **more: Any) -> str:
        """What a tool said, by a modern call."""
        return text_of(message_of(self.call(tool, arguments, **more)))

    def open_session(self, **headers: str) -> "Session":
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        response = self.http.post(self.url, json=rpc("initialize", params), headers=headers)
        assert response.status_code == 200, response.text
        session = Session(self, response.headers["mcp-session-id"], headers)
        assert session.send({"jsonrpc": "2.0", "method": "notifications/initialized"}).status_code == 202
        return session

    def children(self) -> list[int]:
        """The server processes, without the warden."""
        return [pid for pid in descendants(self.process.pid) if b"warden" not in _command_line(pid)]

    def warden(self) -> int:
        return next(pid for pid in descendants(self.process.pid) if b"warden" in _command_line(pid))

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@dataclass
class Session:
    """A legacy session on a bridge."""

    bridge: Bridge
    id: str
    headers: Mapping[str, str]

    def send(self, body: Json, **headers: str) -> httpx2.Response:
        return self.bridge.http.post(self.bridge.url, json=body, headers=self._headers(headers))

    def call(self, tool: str, /, arguments: Json | None = None, *, request_id: int | str = 1) -> httpx2.Response:
        return self.send(rpc("tools/call", {"name": tool, "arguments": arguments or {}}, request_id))

    def text(self, tool: str, /, arguments: Json | None = None) -> str:
        return text_of(message_of(self.call(tool, arguments)))

    @contextmanager
    def events(self, **headers: str) -> Generator[Iterator[Json]]:
        """The standing stream, or a resumed one, as an iterator of `{id, data}`."""
        merged = self._headers(headers) | {"accept": "text/event-stream"}
        with self.bridge.http.stream("GET", self.bridge.url, headers=merged) as response:
            assert response.status_code == 200, response.read()
            yield parse_events(response.iter_lines())

    def end(self) -> httpx2.Response:
        return self.bridge.http.delete(self.bridge.url, headers=self._headers({}))

    def _headers(self, more: Mapping[str, str]) -> dict[str, str]:
        return {"mcp-session-id": self.id, "mcp-protocol-version": "2025-11-25", **self.headers, **more}


@contextmanager
def running_bridge(
    tmp_path: Path, argv: tuple[str, ...] = TINY, *options: str, environment: Mapping[str, str] | None = None
) -> Generator[Bridge]:
    """A bridge in front of a command; whatever happens, nothing of it is left afterwards."""
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    log = tmp_path / "bridge.log"
    command = [sys.executable, "-m", "proxy.bridge", "--name", "tiny", "--port", "0", "--token-file", str(token)]
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [*command, "--grace-s", "0.5", *options, "--", *argv],
            stderr=stderr,
            env={**os.environ, **(environment or {})},
        )
    try:
        wait_until(lambda: process.poll() is not None or b"listening on" in log.read_bytes())
        found = re.search(r"listening on (\S+)", log.read_text())
        assert found is not None, log.read_text()
        headers = {"x-postern-bridge": TOKEN, "accept": "application/json, text/event-stream"}
        with httpx2.Client(headers=headers, timeout=30) as http:
            yield Bridge(process, found[1], log, http)
    finally:
        left = descendants(process.pid)
        if process.poll() is None:
            process.terminate()
        process.wait(20)
        wait_until(lambda: not any(is_alive(pid) for pid in left))


def modern_request(
    method: str,
    params: Mapping[str, Any] | None = None,
    *,
    request_id: int | str = 1,
    meta: Json | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[Json, dict[str, str]]:
    """Body and headers of a proper request of the modern era."""
    known = dict(params or {})
    body = rpc(method, {**known, "_meta": META | (meta or {})}, request_id)
    name = known.get("name") or known.get("uri")
    mirrored = {"mcp-name": name} if isinstance(name, str) else {}
    return body, {"mcp-protocol-version": MODERN, "mcp-method": method, **mirrored, **(headers or {})}


def rpc(method: str, params: Mapping[str, Any] | None = None, request_id: int | str = 1) -> Json:
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": dict(params or {})}


def parse_events(lines: Iterator[str]) -> Iterator[Json]:
    """Server-sent events as `{id, data}`, data parsed; comments are skipped."""
    event: dict[str, Any] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if line and name:
            event[name] = value.removeprefix(" ")
        elif not line and event:
            data = event.get("data", "")
            yield {"id": event.get("id"), "data": json.loads(data) if data else None}
            event = {}


def messages_of(response: httpx2.Response) -> list[Json]:
    """Every message of an answer, JSON or event stream."""
    if response.headers["content-type"].startswith("text/event-stream"):
        return [event["data"] for event in parse_events(iter(response.text.split("\n"))) if event["data"] is not None]
    return [response.json()]


def message_of(response: httpx2.Response) -> Json:
    """The last message of an answer."""
    return messages_of(response)[-1]


def text_of(message: Json) -> str:
    return message["result"]["content"][0]["text"]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
