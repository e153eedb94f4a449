"""One strict JSON-RPC 2.0 message out of untrusted bytes, and the bytes that are forwarded in its place (SPEC I8).

What is forwarded is encoded again from the decoded object, so that the upstream reads exactly what was authorized.
Refused: anything but one UTF-8 JSON object; numbers that no double can hold; members written twice, at any depth;
a key that differs from one of the protocol's by letter case only, wherever a case-blind reader (Go's) would take it
for that key; ids that are not strings or integers. Top-level keys that JSON-RPC does not know are dropped. Keys of
tool arguments are the tool's own and may differ by case.
"""

from dataclasses import replace
from enum import StrEnum
from typing import Any, Self, cast

import msgspec
from msgspec import Struct, structs

from proxy import errors
from proxy.wire.fault import WireFault
from proxy.wire.structure import is_deeper_than, keeps_all

__all__ = ["DEFAULT_MAX_DEPTH", "Envelope", "EnvelopeKind", "WireFault", "encode", "parse_envelope"]

DEFAULT_MAX_DEPTH = 64
MAX_ID_CHARS = 256
MAX_ID_BITS = 512
MAX_METHOD_CHARS = 128

_DECODER = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()

_ENVELOPE_KEYS = ("jsonrpc", "id", "method", "params", "result", "error")
_PARAMS_KEYS = ("_meta", "name", "uri", "arguments", "ref", "cursor", "level", "task", "taskId", "notifications")
_MRTR_KEYS = ("inputResponses", "requestState")
_META_KEYS = tuple(
    f"io.modelcontextprotocol/{key}"
    for key in ("protocolVersion", "clientCapabilities", "clientInfo", "logLevel", "related-task")
)
_NESTED_KEYS = {
    "_meta": (*_META_KEYS, "progressToken", "traceparent", "tracestate", "baggage"),
    "ref": ("type", "name", "uri"),
    "notifications": ("taskIds", "resourceSubscriptions"),
    "task": ("ttl",),
}

_FOREIGN_ENCODINGS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x00")


class _Keys(Struct, frozen=True):
    """The protocol's keys of one kind of object, and each by what a case-blind reader makes of it."""

    known: frozenset[str]
    by_fold: dict[str, str]


def _by_fold(keys: tuple[str, ...]) -> _Keys:
    return _Keys(frozenset(keys), {key.casefold(): key for key in keys})


_FOLDED_ENVELOPE = _by_fold(_ENVELOPE_KEYS)
_FOLDED_PARAMS = _by_fold((*_PARAMS_KEYS, *_MRTR_KEYS))
_FOLDED_NESTED = tuple((name, _by_fold(keys)) for name, keys in _NESTED_KEYS.items())


class EnvelopeKind(StrEnum):
    REQUEST = "request"
    NOTIFICATION = "notification"
    RESPONSE = "response"


class Envelope(Struct, frozen=True):
    """A message of known shape. `message` holds known keys only; `params` is the object inside it, or None.

    Both are to be read, not changed: whoever rewrites something takes `with_params` or `with_result`. `raw` is the
    message encoded, where that is known.
    """

    kind: EnvelopeKind
    id: int | str | None
    method: str | None
    params: dict[str, Any] | None
    message: dict[str, Any]
    raw: bytes | None = None

    def encoded(self) -> bytes:
        """Return the bytes to forward."""
        return self.raw or _ENCODER.encode(self.message)

    def with_params(self, params: dict[str, Any]) -> Self:
        """Return the same message with other parameters."""
        return structs.replace(self, params=params, message={**self.message, "params": params}, raw=None)

    def with_result(self, result: dict[str, Any]) -> Self:
        """Return the same response with another result."""
        return structs.replace(self, message={**self.message, "result": result}, raw=None)


def encode(message: dict[str, Any]) -> bytes:
    """Serialise a decoded message, compact, integers of any size intact."""
    return _ENCODER.encode(message)


def parse_envelope(
    body: bytes, *, max_depth: int = DEFAULT_MAX_DEPTH, max_bytes: int | None = None
) -> Envelope | WireFault:
    """Return the message in a POST body, or what is wrong with it; no bytes make it raise.

    `max_depth` counts nested arrays and objects, the message itself being the first.
    """
    if max_bytes is not None and len(body) > max_bytes:
        return WireFault("wire.size", 413, errors.INVALID_REQUEST, f"the body exceeds {max_bytes} bytes")
    decoded = _decode(body)
    if isinstance(decoded, WireFault):
        return decoded
    if isinstance(decoded, list):
        return _invalid("wire.batch", "a batch of messages is not accepted, send them one by one")
    if not isinstance(decoded, dict):
        return _invalid("wire.not_object", "the body must be one JSON-RPC object")
    found = cast("dict[str, Any]", decoded)
    made = _judge(body, found, max_depth)
    return replace(made, id=_readable_id(found)) if isinstance(made, WireFault) else made


def _judge(body: bytes, found: dict[str, Any], max_depth: int) -> Envelope | WireFault:
    if is_deeper_than(body, max_depth):
        return _invalid("wire.depth", f"the body nests deeper than {max_depth} levels")
    encoded = _ENCODER.encode(found)
    if encoded == body:
        encoded = body  # held once: it may be large
    elif not keeps_all(encoded, body):
        return _invalid("wire.duplicate_key", "an object in the body has the same key twice")
    return _key_fault(found) or _envelope(found, encoded)


def _invalid(code: str, message: str) -> WireFault:
    return WireFault(code, 400, errors.INVALID_REQUEST, message)


def _unparsable(code: str, message: str) -> WireFault:
    return WireFault(code, 400, errors.PARSE_ERROR, message)


def _decode(body: bytes) -> object:
    try:
        return _DECODER.decode(body)
    except UnicodeDecodeError:
        return _unparsable("wire.encoding", "the body is not valid UTF-8")
    except RecursionError:
        return _invalid("wire.depth", "the body nests too deep")
    except msgspec.ValidationError:
        return _unparsable("wire.number", "a number is out of range")
    except msgspec.DecodeError as error:
        if body.startswith(_FOREIGN_ENCODINGS) or body[1:2] == b"\0":
            return _unparsable("wire.encoding", "the body must be UTF-8 without a byte order mark")
        return _unparsable("wire.json", f"the body is not JSON: {error}")


def _key_fault(found: dict[str, Any]) -> WireFault | None:
    fault = _case_fault(found, _FOLDED_ENVELOPE)
    params: Any = found.get("params")
    if fault is not None or not isinstance(params, dict):
        return fault
    inner = cast("dict[str, Any]", params)
    fault = _case_fault(inner, _FOLDED_PARAMS)
    for name, folded in _FOLDED_NESTED:
        nested: Any = inner.get(name)
        if nested is not None and fault is None and isinstance(nested, dict):
            fault = _case_fault(cast("dict[str, Any]", nested), folded)
    return fault


def _case_fault(found: dict[str, Any], keys: _Keys) -> WireFault | None:
    if found.keys() <= keys.known:
        return None
    for key in found:
        known = keys.by_fold.get(key.casefold(), key)
        if known != key:
            return _invalid("wire.key_case", f"{known!r} is written in other letters")
    return None


def _readable_id(found: dict[str, Any]) -> int | str | None:
    value = found.get("id")
    return value if _is_id(value) else None


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_ID_CHARS
    return isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= MAX_ID_BITS


def _envelope(found: dict[str, Any], encoded: bytes) -> Envelope | WireFault:
    if found.get("jsonrpc") != "2.0":
        return _invalid("wire.version", 'jsonrpc must be "2.0"')
    if "id" in found and not _is_id(found["id"]):
        return _invalid("wire.id", f"an id is a string of at most {MAX_ID_CHARS} characters or an integer")
    fault = _response_fault(found) if "method" not in found else _call_fault(found)
    if fault is not None:
        return fault
    method, rpc_id, params = found.get("method"), found.get("id"), found.get("params")
    is_whole = found.keys() <= _FOLDED_ENVELOPE.known
    message = found if is_whole else {key: found[key] for key in _ENVELOPE_KEYS if key in found}
    return Envelope(_kind(found), rpc_id, method, params, message, encoded if is_whole else None)


def _kind(found: dict[str, Any]) -> EnvelopeKind:
    if "method" not in found:
        return EnvelopeKind.RESPONSE
    return EnvelopeKind.REQUEST if "id" in found else EnvelopeKind.NOTIFICATION


def _call_fault(found: dict[str, Any]) -> WireFault | None:
    if "result" in found or "error" in found:
        return _invalid("wire.mixed", "a message has either a method, or a result or error")
    method: object = found["method"]
    if not isinstance(method, str) or not method.isprintable() or not 0 < len(method) <= MAX_METHOD_CHARS:
        return _invalid("wire.method_name", f"a method is a printable string of 1 to {MAX_METHOD_CHARS} characters")
    if "params" in found and not isinstance(found["params"], dict):
        return _invalid("wire.params", "params must be an object")
    if "id" not in found and not method.startswith("notifications/"):
        return _invalid("wire.id", f"{method} is a request and needs an id")
    return None


def _response_fault(found: dict[str, Any]) -> WireFault | None:
    if ("result" in found) == ("error" in found):
        return _invalid("wire.mixed", "a message has a method, or else exactly one of result and error")
    if not isinstance(found.get("result", found.get("error")), dict):
        return _invalid("wire.response", "result and error are objects")
    if "id" not in found:
        return _invalid("wire.id", "a response needs the id of its request")
    if "params" in found:
        return _invalid("wire.mixed", "a response has no params")
    return None
