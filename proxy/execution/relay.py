"""From an upstream's HTTP answer to the one JSON-RPC message that ends a request. Pure, but for the reading itself."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import cast

import msgspec
from msgspec import Struct

from proxy.exchange import Header
from proxy.execution.ends import BrokenAnswerError
from proxy.sessions.store import SESSION_HEADER
from proxy.upstream.response import UpstreamResponse
from proxy.wire.sse import SseError, SseEvent, SseParser, encode_event
from proxy.wire.structure import keeps_all

EVENT_STREAM = b"text/event-stream"
JSON = b"application/json"

MOST_VERSION_CHARS = 32

_DECODER = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()
_MEMBERS = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
_MESSAGE_EVENTS = frozenset({"", "message"})
_OTHER_LINE_ENDS = re.compile(rb"[\x0b\x0c\x1c-\x1e]|\xc2\x85|\xe2\x80[\xa8\xa9]")
"""What ends a line for some clients (httpx-sse before 0.4.2), against the standard: an event could hide behind it."""
_SESSION_ID = re.compile(rb"[\x21-\x7e]{1,1024}")

RpcId = int | str | None


class Reply(Struct):
    """A whole answer that waits for its row. `message` is the decoded JSON-RPC response, None where there is none.

    `body` is what the client will get: the JSON document, or the last event of a stream with its framing, `whole` the
    document as the server sent it where that differs, and `before` the events of an initialize that were held back.
    """

    status: int
    headers: Sequence[Header] = ()
    body: bytes = b""
    whole: bytes = b""
    before: bytes = b""
    message: dict[str, object] | None = None
    event: SseEvent | None = None

    @property
    def is_result(self) -> bool:
        """Whether the server did what it was asked."""
        return self.status < 300 and (self.message is None or "result" in self.message)


def content_type(response: UpstreamResponse) -> bytes:
    """Return the media type in lower case, without parameters."""
    for name, value in response.headers:
        if name == b"content-type":
            return JSON if value == JSON else value.split(b";", 1)[0].strip().lower()
    return b""


def session_id_in(headers: Sequence[Header]) -> str | None:
    """Return the id of the session that the server has opened; None if it keeps none."""
    found = next((value for name, value in headers if name == SESSION_HEADER), None)
    if found is not None and _SESSION_ID.fullmatch(found) is None:
        raise BrokenAnswerError("the server's session id is not visible ASCII")
    return found.decode("ascii") if found is not None else None


def agreed_version(message: Mapping[str, object], asked: Mapping[str, object]) -> str:
    """Return the protocol version of an answer to initialize; what was asked for where it names none."""
    result: object = message.get("result")
    named = cast("dict[str, object]", result).get("protocolVersion") if isinstance(result, dict) else None
    found = named or asked.get("protocolVersion")
    if not isinstance(found, str) or len(found) > MOST_VERSION_CHARS or not (found.isascii() and found.isprintable()):
        raise BrokenAnswerError(f"a protocol version is a printable word of at most {MOST_VERSION_CHARS} characters")
    return found


def decode_message(body: bytes) -> dict[str, object]:
    """Return one JSON-RPC message from the server; raise `BrokenAnswerError` for anything else."""
    try:
        message: object = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenAnswerError(f"the server's answer is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise BrokenAnswerError("the server's answer is not a JSON object")
    return cast("dict[str, object]", message)


def as_read(message: dict[str, object], raw: bytes) -> dict[str, object]:
    """Return a message that was decoded from `raw`: the same object where everybody reads `raw` so.

    A member that was written twice, or one that JSON-RPC does not know (`Result`), is another message to another
    parser: then only what was read here, and is judged and recorded, may go on, encoded anew.
    """
    try:
        encoded = _ENCODER.encode(message)
    except RecursionError as error:
        raise BrokenAnswerError("the server's answer nests too deep") from error
    if message.keys() <= _MEMBERS and (encoded == raw or keeps_all(encoded, raw)):
        return message
    return {name: value for name, value in message.items() if name in _MEMBERS}


def is_response(message: dict[str, object]) -> bool:
    """Whether a message is a well-formed JSON-RPC response."""
    is_error = isinstance(message.get("error"), dict)
    is_one_of_two = ("result" in message) != is_error and ("error" in message) == is_error
    return message.get("jsonrpc") == "2.0" and "method" not in message and is_one_of_two


def is_answer_to(message: dict[str, object], rpc_id: RpcId) -> bool:
    """Whether the message ends the request of that id; an error may carry no id where the server could not read it."""
    if not is_response(message):
        return False
    found = message.get("id")
    if found is None:
        return "error" in message
    return found == rpc_id and type(found) is type(rpc_id)


def is_question(message: dict[str, object]) -> bool:
    """Whether the server asks the client for something."""
    return "method" in message and "id" in message


def reply_of(status: int, body: bytes, rpc_id: RpcId, *, is_json: bool) -> Reply:
    """Judge a whole answer that is no stream: a JSON-RPC answer where one is due, a bare status where none is.

    A body that says nothing in JSON-RPC is dropped where only the status counts: of an error, of an acknowledgement.
    """
    if status >= 400:
        message = _error_in(body) if is_json else None
        return _told(status, body, message) if message else Reply(status)
    if status >= 300:
        raise BrokenAnswerError(f"the server answered HTTP {status}, and redirects are not followed")
    if rpc_id is None:
        return Reply(status)
    if not is_json:
        raise BrokenAnswerError(f"the server answered HTTP {status} without JSON or an event stream")
    message = decode_message(body)
    if not is_answer_to(message, rpc_id):
        raise BrokenAnswerError("the server's answer is not the JSON-RPC response to this request")
    return _told(status, body, message)


def _told(status: int, body: bytes, message: dict[str, object]) -> Reply:
    read = as_read(message, body)
    if read is message:
        return Reply(status, body=body, message=message)
    return Reply(status, body=_ENCODER.encode(read), whole=body, message=read)


def _error_in(body: bytes) -> dict[str, object] | None:
    try:
        message = decode_message(body)
    except BrokenAnswerError:
        return None
    return message if is_response(message) and "error" in message else None


async def events(response: UpstreamResponse, max_event_bytes: int) -> AsyncIterator[SseEvent]:
    """Yield the events of a stream as they come; their bytes are untouched."""
    parser = SseParser(max_event_bytes)
    try:
        async for chunk in response:
            for event in parser.feed(chunk):
                yield event
        for event in parser.finish():
            yield event
    except SseError as error:
        raise BrokenAnswerError(f"the server's event stream is broken: {error}") from error


def message_of(event: SseEvent) -> dict[str, object] | None:
    """Return the JSON-RPC message in an event; None for comments, priming events and other kinds of event.

    What is a call and an answer at once, or a message in an event of another kind, is neither here and might be an
    answer to the client: it raises `BrokenAnswerError`.
    """
    if not event.data or event.event not in _MESSAGE_EVENTS:
        if _OTHER_LINE_ENDS.search(event.raw):
            raise BrokenAnswerError("outside of messages the server's stream has what ends a line for some clients")
        if _holds_message(event.data):
            raise BrokenAnswerError(f"the server sent a message in an event of another kind: {event.event[:40]!r}")
        return None
    message = decode_message(event.data.encode())
    if "method" in message and not message.keys().isdisjoint(("result", "error")):
        raise BrokenAnswerError("the server sent a message that is both a call and an answer")
    return message


def event_of(event: SseEvent, message: dict[str, object]) -> tuple[SseEvent, dict[str, object]]:
    """Return an event and the message in it so that everybody reads the same in it."""
    read = as_read(message, event.data.encode())
    if read is message and _OTHER_LINE_ENDS.search(event.raw) is None:
        return event, message
    if event.id is not None and _OTHER_LINE_ENDS.search(event.id.encode()):
        raise BrokenAnswerError("the id of an event has what ends a line for some clients")
    data = _ENCODER.encode(read).decode()
    raw = encode_event(data, event=event.event, id=event.id, retry=event.retry)
    return SseEvent(raw, event.event, data, event.id, event.retry), read


def _holds_message(data: str) -> bool:
    try:
        found: object = _DECODER.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return False
    items = cast("list[object]", found) if isinstance(found, list) else [found]
    return any(isinstance(item, dict) and "jsonrpc" in item for item in items)
