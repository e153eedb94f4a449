"""From an upstream's HTTP answer to the one JSON-RPC message that ends a request."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

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
        message = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenAnswerError(f"the server's answer is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise BrokenAnswerError("the server's answer is not a JSON object")
    return message


def is_answer_to(message: dict[str, object], rpc_id: int | str | None) -> bool:
    """Whether the message ends the request of that id; an error may carry no id where the server could not read it."""
    if "method" in message:
        return False
    found = message.get("id")
    if found == rpc_id and type(found) is type(rpc_id):
        return True
    return found is None and "error" in message


async def read_json(response: UpstreamResponse, limit: int, rpc_id: int | str | None) -> Reply:
    """Read a JSON answer."""
    body = await response.read(limit)
    message = decode_message(body)
    if not is_answer_to(message, rpc_id):
        raise BrokenAnswerError("the server answered another request than the one it was sent")
    return Reply(response.status, body=body, message=message)


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
