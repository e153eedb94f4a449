"""JSON-RPC messages and the newline-delimited frames that carry them over stdio. Pure."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NoReturn, TypeAlias, TypeGuard, cast

JsonObject: TypeAlias = dict[str, Any]
RequestId: TypeAlias = int | str

# Our ids are integers, so an answer too large to read can still be told from its first or last bytes (the two places
# where SDKs put the id). Both patterns only match at the top level of the object.
_ID_AT_HEAD: Final = re.compile(rb'^\s*\{\s*"jsonrpc"\s*:\s*"2\.0"\s*,\s*"id"\s*:\s*(\d{1,18})\s*,')
_ID_AT_TAIL: Final = re.compile(rb'[,{]\s*"id"\s*:\s*(\d{1,18})\s*\}\s*$')
_EDGE_BYTES: Final = 128


class FrameError(ValueError):
    """These bytes are not one JSON object; the text says why."""


class Kind(StrEnum):
    REQUEST = "request"
    NOTIFICATION = "notification"
    RESPONSE = "response"


@dataclass(frozen=True, slots=True)
class Oversized:
    """A frame above the cap, thrown away; `request_id` names the request it answered when that could be seen."""

    size_bytes: int
    request_id: int | None


def _refuse_constant(name: str) -> NoReturn:
    raise FrameError(f"{name} is not JSON")


def parse_message(raw: bytes) -> JsonObject:
    """One strict UTF-8 JSON object; FrameError for anything else. Integers of any size stay exact."""
    try:
        value = cast("object", json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant))
    except RecursionError:
        raise FrameError("nested too deeply") from None
    except ValueError as error:
        raise FrameError(str(error)) from None
    if not isinstance(value, dict):
        raise FrameError("a message is a JSON object")
    return cast("JsonObject", value)


def render_message(message: JsonObject) -> bytes:
    """Render on one line of ASCII; FrameError when a number has no JSON form (1e999)."""
    try:
        return json.dumps(message, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (ValueError, RecursionError) as error:
        raise FrameError(str(error)) from None


def is_request_id(value: object) -> TypeGuard[RequestId]:
    return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))


def kind_of(message: JsonObject) -> Kind | None:
    """Which of the three JSON-RPC shapes a message has; None when it has none of them."""
    if message.get("jsonrpc") != "2.0":
        return None
    if "method" in message:
        return _kind_of_call(message)
    if "id" not in message or ("result" in message) == ("error" in message):
        return None
    if message["id"] is not None and not is_request_id(message["id"]):
        return None
    return Kind.RESPONSE


def _kind_of_call(message: JsonObject) -> Kind | None:
    if not isinstance(message["method"], str) or "result" in message or "error" in message:
        return None
    if "params" in message and not isinstance(message["params"], dict):
        return None
    if "id" not in message:
        return Kind.NOTIFICATION
    return Kind.REQUEST if is_request_id(message["id"]) else None


def readable_id(message: JsonObject) -> RequestId | None:
    """Return the id an error answer should echo."""
    value: object = message.get("id")
    return value if is_request_id(value) else None


def error_message(request_id: RequestId | None, code: int, text: str, data: object = None) -> JsonObject:
    error: JsonObject = {"code": code, "message": text}
    if data is not None:
        error["data"] = data
    return {"jsonrpc": "2.0", "id": request_id, "error": error}


class FrameSplitter:
    """Bytes of a pipe in, whole lines out; a line above `cap_bytes` becomes one `Oversized` and costs no memory."""

    def __init__(self, cap_bytes: int) -> None:
        self._cap_bytes = cap_bytes
        self._parts: list[bytes] = []
        self._held_bytes = 0
        self._head = b""
        self._tail = b""

    def feed(self, data: bytes) -> Iterator[bytes | Oversized]:
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._hold(data[start:end])
            start = end + 1
            frame = self._release()
            if isinstance(frame, Oversized) or frame.strip():
                yield frame
        if start < len(data):
            self._hold(data[start:])

    def _hold(self, part: bytes) -> None:
        self._held_bytes += len(part)
        if self._held_bytes <= self._cap_bytes:
            self._parts.append(part)
            return
        if self._parts:
            self._head = b"".join(self._parts)[:_EDGE_BYTES]
            self._parts.clear()
        self._head = self._head or part[:_EDGE_BYTES]
        self._tail = (self._tail + part)[-_EDGE_BYTES:]

    def _release(self) -> bytes | Oversized:
        size, self._held_bytes = self._held_bytes, 0
        if size > self._cap_bytes:
            frame: bytes | Oversized = Oversized(size, _visible_id(self._head, self._tail))
        else:
            frame = b"".join(self._parts)
        self._parts.clear()
        self._head = self._tail = b""
        return frame


def _visible_id(head: bytes, tail: bytes) -> int | None:
    found = _ID_AT_HEAD.search(head) or _ID_AT_TAIL.search(tail)
    return int(found.group(1)) if found else None
