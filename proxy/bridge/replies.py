"""What leaves the bridge over HTTP: one JSON answer, or an event stream. Also reading the request body."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

from proxy.bridge.frames import RequestId, error_message, render_message
from proxy.bridge.stream import Event, Stream, render_event_id

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]

_JSON_HEADERS: Final[Headers] = ((b"content-type", b"application/json"),)
_SSE_HEADERS: Final[Headers] = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)
_RETRY_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the bridge itself says no: HTTP status, JSON-RPC code, a sentence for the caller."""

    status: int
    code: int
    reason: str
    data: object = None
    headers: Headers = ()


class BodyTooLargeError(Exception):
    """The request body is above the cap."""


class DisconnectedError(Exception):
    """The client left before its request was complete."""


async def read_body(receive: Receive, cap_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        part = cast("bytes", message.get("body", b""))
        size += len(part)
        if size > cap_bytes:
            raise BodyTooLargeError
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_json(send: Send, status: int, body: bytes, headers: Headers = ()) -> None:
    length = (b"content-length", str(len(body)).encode())
    content = _JSON_HEADERS if body else ()
    await send({"type": "http.response.start", "status": status, "headers": [*content, length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def send_failure(send: Send, failure: Failure, request_id: RequestId | None = None) -> None:
    body = render_message(error_message(request_id, failure.code, failure.reason, failure.data))
    await send_json(send, failure.status, body, failure.headers)


@dataclass(frozen=True, slots=True)
class Answering:
    """How one answer is written.

    It stays a plain JSON answer when the last message is the first one and comes within `commit_after_s`; otherwise it
    becomes an event stream, with a comment every `ping_s` of silence. `has_ids`: events carry ids, for resumption.
    `is_primed`: an empty event with an id goes first. `poll_s`: end a primed stream after that much silence, the client
    comes back for the rest.
    """

    commit_after_s: float
    ping_s: float
    has_ids: bool = False
    is_primed: bool = False
    poll_s: float | None = None
    headers: Headers = ()


class Answer:
    """Writes one stream to one client."""

    def __init__(self, send: Send, receive: Receive, stream: Stream, manner: Answering) -> None:
        self._send = send
        self._stream = stream
        self._manner = manner
        self._gone = asyncio.ensure_future(wait_for_disconnect(receive))
        self.is_event_stream = False

    def stop(self) -> None:
        """End here, as if the client had left: another connection has taken over."""
        self._gone.cancel()

    async def write(self) -> bool:
        """Write from the first message to the last; False when the client left before."""
        self._stream.attach(self)
        try:
            first = await self._next(0, self._manner.commit_after_s)
            if first is not None and first.is_last:
                await send_json(self._send, first.status, first.body, self._manner.headers)
                return True
            return not self._gone.done() and await self._write_events(0)
        finally:
            self._finish()

    async def resume(self, after: int) -> bool:
        """Write an event stream from a position on."""
        self._stream.attach(self)
        try:
            return await self._write_events(after)
        finally:
            self._finish()

    def _finish(self) -> None:
        self._gone.cancel()
        self._stream.detach(self)

    async def _write_events(self, after: int) -> bool:
        self.is_event_stream = True
        await self._send(
            {"type": "http.response.start", "status": 200, "headers": [*_SSE_HEADERS, *self._manner.headers]}
        )
        if self._manner.is_primed:
            await self._write(self._render_prime(after))
        is_complete = await self._follow(after)
        await self._send({"type": "http.response.body", "body": b""})
        return is_complete

    async def _follow(self, cursor: int) -> bool:
        silence_s = self._manner.poll_s or self._manner.ping_s
        while True:
            event = await self._next(cursor, silence_s)
            if event is not None:
                cursor = event.seq
                await self._write(self._render(event))
                self._stream.read_through = max(self._stream.read_through, cursor)
                if event.is_last:
                    return True
            elif self._gone.done():
                return False
            elif self._stream.is_closed and self._stream.next_after(cursor) is None:
                return True
            elif self._manner.poll_s is not None:
                return False
            else:
                await self._write(b": ping\n\n")

    async def _next(self, cursor: int, limit_s: float) -> Event | None:
        """Wait for the next message; None when the client left, the stream ended, or the time is up."""
        event = self._stream.next_after(cursor)
        if event is None and not self._stream.is_closed and not self._gone.done():
            change = self._stream.change()
            await asyncio.wait({self._gone, change}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            change.cancel()
            event = self._stream.next_after(cursor)
        return event

    async def _write(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    def _render(self, event: Event) -> bytes:
        event_id = f"id: {render_event_id(self._stream.name, event.seq)}\n" if self._manner.has_ids else ""
        return b"event: message\n" + event_id.encode() + b"data: " + event.body + b"\n\n"

    def _render_prime(self, after: int) -> bytes:
        return f"id: {render_event_id(self._stream.name, after)}\nretry: {_RETRY_MS}\ndata: \n\n".encode()
