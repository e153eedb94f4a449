"""JSON-RPC over streamable HTTP, as much as a health check needs: one request, one answer, JSON or event stream."""

import itertools
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import httpx2

MAX_BODY_BYTES = 16 << 20
_QUIET_STATUSES = {
    401: "it refuses our credentials",
    403: "it forbids the check",
    404: "its MCP endpoint has another address: set `path`, or mend `endpoint`",
    405: "its MCP endpoint has another address: set `path`, or mend `endpoint`",
    429: "it asks to slow down",
}


class ProbeError(Exception):
    """A check that did not pass; the text is the reason that people read."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: a result, or a JSON-RPC error, with HTTP status and session."""

    status: int
    session: str | None
    result: dict[str, Any] | None
    error: dict[str, Any] | None

    @property
    def error_code(self) -> int | None:
        return self.error.get("code") if self.error else None

    def describe(self) -> str:
        """Say what is wrong with it."""
        if self.error:
            return f"HTTP {self.status}, error {self.error.get('code')}: {str(self.error.get('message'))[:200]}"
        return f"HTTP {self.status}" + (f": {why}" if (why := _QUIET_STATUSES.get(self.status)) else "")


class Exchange:
    """Sends requests to one MCP endpoint over one kept-alive connection."""

    def __init__(self, client: httpx2.AsyncClient, url: str) -> None:
        self._client, self._url = client, url
        self._ids = itertools.count(1)

    async def request(self, method: str, params: Mapping[str, Any], headers: Mapping[str, str]) -> Answer:
        """Send one request and return its answer; raise ProbeError for what is not an answer of an MCP server."""
        number = next(self._ids)
        body = {"jsonrpc": "2.0", "id": number, "method": method, "params": dict(params)}
        return await self._send(body, number, headers)

    async def notify(self, method: str, headers: Mapping[str, str]) -> None:
        """Send one notification."""
        answer = await self._send({"jsonrpc": "2.0", "method": method}, None, headers)
        if answer.status >= 400:
            raise ProbeError(f"{method}: {answer.describe()}")

    async def end_session(self, headers: Mapping[str, str]) -> None:
        """Tell a legacy server that its session is over."""
        await self._client.delete(self._url, headers=dict(headers))

    async def _send(self, body: Mapping[str, Any], number: int | None, headers: Mapping[str, str]) -> Answer:
        sent = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json", **headers}
        try:
            async with self._client.stream("POST", self._url, content=json.dumps(body), headers=sent) as response:
                return await _read(response, number)
        except httpx2.ConnectError as error:
            raise ProbeError("nothing accepts connections") from error
        except httpx2.HTTPError as error:
            raise ProbeError(f"the connection failed: {type(error).__name__}") from error


async def _read(response: httpx2.Response, number: int | None) -> Answer:
    session = response.headers.get("mcp-session-id")
    message: dict[str, Any] = {}
    if number is not None:
        is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
        message = await (_from_stream(response, number) if is_stream else _from_json(response))
    error, result = message.get("error"), message.get("result")
    if number is not None and error is None and result is None and response.status_code < 400:
        raise ProbeError(f"HTTP {response.status_code} without a JSON-RPC answer: it does not speak MCP there")
    return Answer(response.status_code, session, _object(result), _object(error))


def _object(value: Any) -> dict[str, Any] | None:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


async def _from_json(response: httpx2.Response) -> dict[str, Any]:
    raw = bytearray()
    async for chunk in response.aiter_bytes():
        raw += chunk
        if len(raw) > MAX_BODY_BYTES:
            raise ProbeError(f"its answer is larger than {MAX_BODY_BYTES} bytes")
    return _message(bytes(raw)) or {}


async def _from_stream(response: httpx2.Response, number: int) -> dict[str, Any]:
    async for data in _events(response.aiter_lines()):
        message = _message(data.encode())
        if message is not None and message.get("id") == number and ("result" in message or "error" in message):
            return message
    raise ProbeError("the event stream ended without an answer")


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    data: list[str] = []
    async for line in lines:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield "\n".join(data)
            data = []


def _message(raw: bytes) -> dict[str, Any] | None:
    try:
        return _object(json.loads(raw))
    except ValueError:
        return None
