"""The bytes of answers that are ours: refusals in the shape that MCP clients surface. Pure."""

from collections.abc import Mapping
from uuid import UUID

import msgspec

from proxy.errors import Refusal

JSON = (b"content-type", b"application/json")
NO_STORE = (b"cache-control", b"no-store")
EXECUTION_HEADER = b"x-postern-execution-id"

_ENCODER = msgspec.json.Encoder()

RpcId = int | str | None


def execution_header(execution_id: UUID) -> tuple[bytes, bytes]:
    """Tell the caller which row is theirs."""
    return (EXECUTION_HEADER, str(execution_id).encode())


def refusal_headers(refusal: Refusal, execution_id: UUID) -> list[tuple[bytes, bytes]]:
    """Headers of a refused request."""
    return [JSON, NO_STORE, execution_header(execution_id), *refusal.headers]


def refusal_body(refusal: Refusal, rpc_id: RpcId, execution_id: UUID) -> bytes:
    """JSON-RPC error object with the request's id, so that clients show the reason instead of a bare status."""
    return _ENCODER.encode(refusal_message(refusal, rpc_id, execution_id))


def refusal_message(refusal: Refusal, rpc_id: RpcId, execution_id: UUID) -> dict[str, object]:
    """Return the JSON-RPC error message of a refusal."""
    code, sentence = refusal.answer()
    data: dict[str, object] = {**(refusal.data or {}), "code": code, "executionId": str(execution_id)}
    error = {"code": refusal.jsonrpc_code, "message": sentence, "data": data}
    return {"jsonrpc": "2.0", "id": rpc_id, "error": error}


def encode(message: Mapping[str, object]) -> bytes:
    """Serialise a JSON-RPC message of ours."""
    return _ENCODER.encode(message)
