"""The road to a server for `postern lock`: httpx2, with the credentials that the proxy itself would present."""

import json
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Self, cast

import httpx2

from registry.contracts.catalogue import CatalogueError, Reply
from registry.models import Server
from registry.secrets import SecretError, SecretReader

BRIDGE_HEADER = "x-postern-bridge"
_MAX_BYTES = 16_777_216
_ACCEPT = {
    "accept": "application/json, text/event-stream",
    "accept-encoding": "identity",
    "content-type": "application/json",
}
_LINE_END = re.compile(rb"\r\n|\n|\r")


class HttpTransport:
    """One server's endpoint; use it as a context manager."""

    def __init__(self, url: str, headers: Mapping[str, str], timeout_s: float) -> None:
        self._url = url
        self._headers = dict(headers)
        # Reading the system's certificates takes half a second; without TLS there is nothing to verify.
        verify = not url.startswith("http://")
        self._client = httpx2.AsyncClient(timeout=timeout_s, trust_env=False, follow_redirects=False, verify=verify)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def send(self, verb: str, headers: Mapping[str, str], message: Mapping[str, Any] | None) -> Reply:
        """Send one message and read its answer."""
        body = json.dumps(message).encode() if message is not None else b""
        own = {**_ACCEPT, **self._headers, **headers}
        try:
            async with self._client.stream(verb, self._url, content=body, headers=own) as response:
                number = message.get("id") if message is not None else None
                found = await _read(response, number) if number is not None else None
                size = response.num_bytes_downloaded
                return Reply(response.status_code, found, response.headers.get("mcp-session-id"), size)
        except httpx2.ConnectError as error:
            raise CatalogueError(f"nothing accepts connections at {self._url}") from error
        except httpx2.HTTPError as error:
            raise CatalogueError(f"the connection to {self._url} failed: {type(error).__name__}") from error


async def _read(response: httpx2.Response, number: object) -> Mapping[str, Any] | None:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise CatalogueError("its answer is compressed, which nobody asked for")
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        async for data in _events(_lines(_bounded(response))):
            message = _message(data)
            if message is not None and message.get("id") == number and "method" not in message:
                return message
        raise CatalogueError("the event stream ended without an answer")
    return _message(b"".join([chunk async for chunk in _bounded(response)]))


async def _bounded(response: httpx2.Response) -> AsyncIterator[bytes]:
    """Yield what comes, up to the limit: whatever a stranger's server sends, no more of it is held."""
    size = 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > _MAX_BYTES:
            raise CatalogueError(f"its answer is larger than {_MAX_BYTES:,} bytes")
        yield chunk


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Split at every line end of the format, each byte looked at once: a line may be as long as the limit."""
    parts: list[bytes] = []
    half_end = b""
    async for chunk in chunks:
        known = half_end + chunk
        half_end = known[-1:] if known.endswith(b"\r") else b""
        first, *rest = _LINE_END.split(known.removesuffix(b"\r"))
        parts.append(first)
        if rest:
            yield b"".join(parts)
            for line in rest[:-1]:
                yield line
            parts = [rest[-1]]
    if half_end:
        yield b"".join(parts)


async def _events(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    data: list[bytes] = []
    async for line in lines:
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            yield b"\n".join(data)
            data = []


def _message(raw: bytes) -> Mapping[str, Any] | None:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def transport_to(server: Server, secrets: SecretReader, state_dir: Path) -> HttpTransport:
    """Return the road to a server that runs; raise `CatalogueError` where its credentials cannot be had."""
    timeout_s = server.health.timeout_s + 10
    url = server.endpoint or f"http://127.0.0.1:{server.port}{server.path}"
    if server.type == "internal" and server.transport == "stdio":
        return HttpTransport(url, {BRIDGE_HEADER: _bridge_token(server, state_dir)}, timeout_s)
    try:
        headers = {header.name: secrets.reveal(header.value) for header in server.headers}
    except SecretError as error:
        raise CatalogueError(f"its credentials cannot be read: {error}") from error
    return HttpTransport(url, headers, timeout_s)


def _bridge_token(server: Server, state_dir: Path) -> str:
    token = state_dir / "bridge" / f"{server.name}.token"
    try:
        return token.read_text(encoding="ascii").strip()
    except OSError as error:
        raise CatalogueError(f"its bridge is not up ({token.name}: {error.strerror})") from error
