"""The proxy's own road to a server, as the reader of catalogues wants it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from proxy.answers import encode
from proxy.exchange import Header
from proxy.execution.ends import BrokenAnswerError
from proxy.execution.relay import EVENT_STREAM, content_type, decode_message, events, message_of
from proxy.sessions.store import SESSION_HEADER
from proxy.upstream import UpstreamError
from proxy.upstream.response import UpstreamResponse
from registry.contracts.catalogue import CatalogueError, Reply

_OWN: tuple[Header, ...] = (
    (b"content-type", b"application/json"),
    (b"accept", b"application/json, text/event-stream"),
)


class Upstream(Protocol):
    """The road to one server."""

    async def send(self, method: bytes, headers: Sequence[Header], body: bytes) -> UpstreamResponse: ...


class RoadTransport:
    """Sends with the credentials that the proxy presents there."""

    def __init__(self, upstream: Upstream, credentials: Sequence[Header], max_bytes: int) -> None:
        self._upstream = upstream
        self._credentials = tuple(credentials)
        self._max_bytes = max_bytes

    async def send(self, verb: str, headers: Mapping[str, str], message: Mapping[str, Any] | None) -> Reply:
        """Send one message and read its answer; raise `CatalogueError`."""
        own = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        body = encode(message) if message is not None else b""
        number = message.get("id") if message is not None else None
        try:
            async with await self._upstream.send(verb.encode(), [*_OWN, *own, *self._credentials], body) as response:
                session = next((value for name, value in response.headers if name == SESSION_HEADER), None)
                found, size = await self._read(response, number)
                return Reply(response.status, found, session.decode("latin-1") if session is not None else None, size)
        except (UpstreamError, BrokenAnswerError) as error:
            raise CatalogueError(str(error)) from error

    async def _read(self, response: UpstreamResponse, number: object) -> tuple[Mapping[str, Any] | None, int]:
        if content_type(response) == EVENT_STREAM:
            async for event in events(response, self._max_bytes):
                message = message_of(event)
                if message is not None and message.get("id") == number and "method" not in message:
                    return message, len(event.data)
            raise CatalogueError("the event stream ended without an answer")
        body = await response.read(self._max_bytes)
        if number is None or content_type(response) != b"application/json" or not body.strip():
            return None, 0
        return decode_message(body), len(body)
