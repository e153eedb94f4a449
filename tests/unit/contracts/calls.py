"""Calls and servers for tests of the guard."""

from typing import Any

from proxy.call import Call
from proxy.wire.era import Era
from proxy.wire.jsonrpc import Envelope, EnvelopeKind
from registry.contracts.catalogue import Catalogue
from registry.contracts.definitions import pinned
from registry.contracts.locked import ServerLock
from registry.models import Server

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "region": {"type": "string", "x-mcp-header": "Region"},
    },
    "required": ["id"],
    "additionalProperties": False,
}
OUTPUT: dict[str, Any] = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
READ: dict[str, Any] = {"name": "read", "description": "Read", "inputSchema": SCHEMA, "outputSchema": OUTPUT}


def lock_of(*tools: dict[str, Any], instructions: str | None = None) -> ServerLock:
    return ServerLock.of_catalogue(catalogue(*tools, instructions=instructions))


def catalogue(*tools: dict[str, Any], instructions: str | None = None) -> Catalogue:
    return Catalogue({"tools": {tool["name"]: pinned("tools", tool) for tool in tools}}, instructions)


def server(**section: Any) -> Server:
    return Server.model_validate({"name": "notes", "tools": {"*": {}}, **section})


def call(method: str = "tools/call", era: Era = Era.MODERN, headers: Any = (), **params: Any) -> Call:
    made = Call.arrive("notes", "POST", tuple(headers), "127.0.0.1")
    message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
    made.take(Envelope(EnvelopeKind.REQUEST, 7, method, params, message))
    made.era, made.protocol_version = era, "2026-07-28" if era is Era.MODERN else "2025-11-25"
    return made


def answer(structured: Any = None, **more: Any) -> dict[str, object]:
    result: dict[str, Any] = {"content": [{"type": "text", "text": "hi"}], **more}
    if structured is not None:
        result["structuredContent"] = structured
    return {"jsonrpc": "2.0", "id": 7, "result": result}
