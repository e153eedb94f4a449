"""From an upstream's HTTP answer to the one JSON-RPC message that ends a request."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import cast

import msgspec

from proxy.exchange import Header
from proxy.upstream.response import UpstreamResponse
from proxy.wire.sse import SseError, SseEvent, SseParser

_DECODER = msgspec.json.Decoder()
_MAX_EVENT_BYTES = 16_777_216


class BrokenAnswerError(Exception):
    """The server answered, but not in MCP; the message says what was wrong."""


@dataclass(slots=True)
class Reply:
    """A whole answer that waits for its row. `message` is the decoded JSON-RPC response, None where there is no body.

    `body` is what the client will get: the JSON document, or the last event of a stream with its framing.
    """

    status: int
    headers: list[Header] = field(default_factory=list[Header])
    body: bytes = b""
    message: dict[str, object] | None = None
    event: SseEvent | None = None
    events: int = 0


def content_type(response: UpstreamResponse) -> bytes:
    """Return the media type in lower case, without parameters."""
    for name, value in response.headers:
        if name == b"content-type":
            return value.split(b";", 1)[0].strip().lower()
    return b""


def decode_message(body: bytes) -> dict[str, object]:
    """Return one JSON-RPC message from the server; raise `BrokenAnswerError` for anything else."""
    try:
        message: object = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenAnswerError(f"the server's answer is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise BrokenAnswerError("the server's answer is not a JSON object")
    return cast("dict[str, object]", message)


def is_answer_to(message: dict[str, object], rpc_id: int | str | None) -> bool:
    """Whether the message ends the request of that id; an error may carry no id where the server could not read it."""
    if "method" in message:
        return False
    found = message.get("id")
    if found == rpc_id and type(found) is type(rpc_id):
        return True
    return found is None and "error" in message


def reply_of(status: int, body: bytes, rpc_id: int | str | None, *, is_json: bool, expects_message: bool) -> Reply:
    """Judge a whole answer that is no stream: a JSON-RPC message where one is due, nothing where none is."""
    if is_json and body.strip():
        message = decode_message(body)
        if rpc_id is not None and not is_answer_to(message, rpc_id):
            raise BrokenAnswerError("the server answered another request than the one it was sent")
        return Reply(status, body=body, message=message)
    if status < 300 and (body.strip() or expects_message):
        raise BrokenAnswerError(f"the server answered HTTP {status} without JSON or an event stream")
    return Reply(status)


async def events(response: UpstreamResponse) -> AsyncIterator[SseEvent]:
    """Yield the events of a stream as they come; their bytes are untouched."""
    parser = SseParser(_MAX_EVENT_BYTES)
    try:
        async for chunk in response:
            for event in parser.feed(chunk):
                yield event
        for event in parser.finish():
            yield event
    except SseError as error:
        raise BrokenAnswerError(f"the server's event stream is broken: {error}") from error


def message_of(event: SseEvent) -> dict[str, object] | None:
    """Return the JSON-RPC message in an event; None for comments, priming events and other kinds of event."""
    if not event.data or event.event not in {"", "message"}:
        return None
    return decode_message(event.data.encode())
