"""Event ids as a session's client sees them: the server's own, with the request that they belong to, signed. Pure.

A server's event store may know the ids of all its sessions. Only an id that this session was sent can be resumed from,
and it says which request is resumed, so that any replica can authorize, filter and record what then arrives.
"""

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from proxy.wire.jsonrpc import Envelope, EnvelopeKind
from proxy.wire.sse import SseEvent

LAST_EVENT_HEADER = b"last-event-id"
MAX_ID_BYTES = 2048
_MAC_BYTES = 16
_ID_LINE = re.compile(rb"(?:(?<=\A\xef\xbb\xbf)|\A|(?<=[\r\n]))id(?::[^\r\n]*)?(?:\r\n|\r|\n)")
_BY_URI = ("resources/read", "resources/subscribe", "resources/unsubscribe")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[int, str, Any]).decode


class Origin(Struct, frozen=True, gc=False):
    """The request whose answer a stream carries: `target` is the tool, prompt or resource that it names."""

    execution: UUID
    rpc_id: int | str
    method: str
    target: str | None

    def envelope(self) -> Envelope:
        """Return the request as far as authorization, filters and rows need it."""
        named = "uri" if self.method in _BY_URI else "name"
        params = {named: self.target} if self.target is not None else None
        return Envelope(EnvelopeKind.REQUEST, self.rpc_id, self.method, params, {})


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a stream: the server's event id, valid in that generation of its session."""

    event_id: str
    generation: int
    origin: Origin | None = None


def seal(position: Position, key: bytes) -> str | None:
    """Return the id for the client; None for one that is too long to come back in a header."""
    origin = position.origin
    fields = [origin.execution.hex, origin.rpc_id, origin.method, origin.target] if origin is not None else None
    payload = _encode([position.generation, position.event_id, fields])
    sealed = base64.urlsafe_b64encode(_mac(payload, key) + payload).rstrip(b"=")
    return sealed.decode() if len(sealed) <= MAX_ID_BYTES else None


def unseal(value: bytes, key: bytes) -> Position | None:
    """Return the place that a client names; None if it was not this session that was sent the id."""
    if len(value) > MAX_ID_BYTES:
        return None
    try:
        opened = base64.b64decode(value + b"=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    mac, payload = opened[:_MAC_BYTES], opened[_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(payload, key)):
        return None
    generation, event_id, fields = _decode(payload)
    if fields is None:
        return Position(event_id, generation)
    execution, rpc_id, method, target = fields
    return Position(event_id, generation, Origin(UUID(hex=execution), rpc_id, method, target))


def with_id(event: SseEvent, event_id: str | None) -> bytes:
    """Return the bytes of an event with another id, or without one; all else stays as it came."""
    if event.id is None:
        return event.raw
    lines = iter(() if event_id is None else (b"id: %b\n" % event_id.encode(),))
    return _ID_LINE.sub(lambda _: next(lines, b""), event.raw)


def _mac(payload: bytes, key: bytes) -> bytes:
    return hmac.digest(key, payload, hashlib.sha256)[:_MAC_BYTES]
