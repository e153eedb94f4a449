"""One HTTP request, as the endpoints see it."""

from collections.abc import Sequence
from typing import Final

from proxy.bridge.frames import RequestId
from proxy.bridge.replies import (
    BodyTooLargeError,
    DisconnectedError,
    Failure,
    Headers,
    Receive,
    Send,
    read_body,
    send_failure,
    send_json,
)
from proxy.errors import INVALID_REQUEST, TOO_LARGE
from proxy.wire.era import Classification, classify
from proxy.wire.fault import WireFault
from proxy.wire.jsonrpc import Envelope, parse_envelope

# Deeper than the proxy allows by default: what it has accepted is not refused here.
_MAX_DEPTH: Final = 512
_NOT_ACCEPTABLE: Final = Failure(406, INVALID_REQUEST, "Accept must have application/json and text/event-stream")
_TOO_LARGE: Final = Failure(413, TOO_LARGE, "the request body is too large")
_JSON_TYPES: Final = frozenset({b"*/*", b"application/*", b"application/json"})
_EVENT_TYPES: Final = frozenset({b"*/*", b"text/*", b"text/event-stream"})


class Exchange:
    """A request with its way to answer. Errors echo the request's id as soon as it is known."""

    def __init__(
        self, method: str, headers: Sequence[tuple[bytes, bytes]], receive: Receive, send: Send, cap_bytes: int
    ) -> None:
        self.method = method
        self.headers = headers
        self.receive = receive
        self.send = send
        self._cap_bytes = cap_bytes
        self._request_id: RequestId | None = None

    def values(self, name: bytes) -> list[str]:
        """Every value of a header (name in lower case), without the white space that httptools leaves at its end."""
        return [value.strip(b" \t").decode("latin-1") for known, value in self.headers if known == name]

    async def read_envelope(self) -> Envelope | None:
        """The message in the body; None when it was refused, or the client left."""
        if not self.accepts(_JSON_TYPES) or not self.accepts_events():
            await self.refuse(_NOT_ACCEPTABLE)
            return None
        try:
            envelope = parse_envelope(await read_body(self.receive, self._cap_bytes), max_depth=_MAX_DEPTH)
        except DisconnectedError:
            return None
        except BodyTooLargeError:
            await self.refuse(_TOO_LARGE)
            return None
        self._request_id = envelope.id
        if isinstance(envelope, WireFault):
            await self.refuse(failure_of(envelope))
            return None
        return envelope

    async def find_era(self, envelope: Envelope | None) -> Classification | None:
        """Which era the request is of; None when it was refused."""
        found = classify(self.headers, envelope)
        if isinstance(found, WireFault):
            await self.refuse(failure_of(found))
            return None
        return found

    async def refuse(self, failure: Failure) -> None:
        await send_failure(self.send, failure, self._request_id)

    async def accept(self, status: int = 202, headers: Headers = ()) -> None:
        """Answer that it was taken."""
        await send_json(self.send, status, b"", headers)

    def accepts_events(self) -> bool:
        return self.accepts(_EVENT_TYPES)

    def accepts(self, types: frozenset[bytes]) -> bool:
        """Whether the Accept header has one of these."""
        offered = b",".join(value for name, value in self.headers if name == b"accept").split(b",")
        return any(one.partition(b";")[0].strip().lower() in types for one in offered)


def failure_of(fault: WireFault) -> Failure:
    return Failure(fault.status, fault.jsonrpc_code, fault.message, fault.data)
