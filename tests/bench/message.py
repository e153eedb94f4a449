"""The one request that every target gets: a `tools/call` of about a kilobyte, in either era. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

EraName = Literal["2026-07-28", "2025-11-25"]
ERAS: tuple[EraName, ...] = ("2026-07-28", "2025-11-25")
MODERN: EraName = "2026-07-28"
PREFIX = "io.modelcontextprotocol/"
META = {f"{PREFIX}protocolVersion": MODERN, f"{PREFIX}clientCapabilities": {}}
INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "bench", "version": "1"},
}


@dataclass(frozen=True, slots=True)
class Message:
    """Headers and body of a POST."""

    headers: dict[str, str]
    body: bytes


def call(era: EraName, body_bytes: int = 1024, rpc_id: int = 1, session: str | None = None) -> Message:
    """Return a call of `echo` whose body has about `body_bytes` bytes."""
    arguments = {"text": "", "limit": 10, "tags": ["bench", "governed"]}
    params: dict[str, object] = {"name": "echo", "arguments": arguments}
    if era == MODERN:
        params["_meta"] = META
    message = {"jsonrpc": "2.0", "id": rpc_id, "method": "tools/call", "params": params}
    missing = body_bytes - len(_encoded(message))
    arguments["text"] = ("Pack my box with five dozen liquor jugs. " * (missing // 41 + 1))[: max(0, missing)]
    mirrored = {"mcp-method": "tools/call", "mcp-name": "echo"} if era == MODERN else {}
    return Message(_headers(era, session) | mirrored, _encoded(message))


def initialize() -> Message:
    """Return the request that opens a session of the older era."""
    message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": INITIALIZE}
    headers = _headers("2025-11-25", None)
    del headers["mcp-protocol-version"]
    return Message(headers, _encoded(message))


def listen() -> Message:
    """Return the request that opens a stream of the newer era."""
    params = {"notifications": {"toolsListChanged": True}, "_meta": META}
    message = {"jsonrpc": "2.0", "id": "listen", "method": "subscriptions/listen", "params": params}
    return Message(_headers(MODERN, None) | {"mcp-method": "subscriptions/listen"}, _encoded(message))


def _headers(era: EraName, session: str | None) -> dict[str, str]:
    headers = {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": era,
    }
    return headers if session is None else headers | {"mcp-session-id": session}


def _encoded(message: Mapping[str, object]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()
