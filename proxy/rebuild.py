"""A server that lost a session gets it again from the stored parameters, and the client sees nothing (SPEC S3)."""

import asyncio
from collections.abc import Sequence
from typing import Protocol, cast
from weakref import WeakValueDictionary

from proxy import errors
from proxy.answers import encode
from proxy.exchange import Header
from proxy.relay import BrokenAnswerError, content_type, decode_message, events, message_of
from proxy.sessions import SESSION_HEADER, Session, Sessions
from proxy.upstream.response import UpstreamResponse

_LIMIT_BYTES = 1_048_576
_REBUILD_S = 30.0
_INITIALIZE_ID = "postern-rebuild"
_HEADERS: tuple[Header, ...] = (
    (b"content-type", b"application/json"),
    (b"accept", b"application/json, text/event-stream"),
)


class Upstream(Protocol):
    """The road to the server that lost the session."""

    async def send(self, method: bytes, headers: Sequence[Header], body: bytes) -> UpstreamResponse: ...


class SessionLostError(Exception):
    """The server does not know the session any more, and it cannot or must not be rebuilt."""


def is_lost(status: int, message: dict[str, object] | None) -> bool:
    """Whether an answer says that the server does not know the session.

    404 is what the specification asks for; the TypeScript SDK of the first generation answers 400 with -32000 and a
    sentence about the session instead (research/mcp.md §3.2).
    """
    found: object = message.get("error") if message else None
    error = cast("dict[str, object]", found) if isinstance(found, dict) else {}
    if status == 404:
        return error.get("code") != errors.METHOD_NOT_FOUND
    text = str(error.get("message", "")).lower()
    return status == 400 and error.get("code") == -32000 and ("session" in text or "not initialized" in text)


class Rebuilder:
    """Re-initializes lost sessions; callers that race for the same one share one attempt."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def rebuild(self, session: Session, upstream: Upstream, credentials: Sequence[Header]) -> Session:
        """Return the session with a new upstream id; raise `SessionLostError` where the server refuses."""
        lock = self._locks.setdefault(session.id, asyncio.Lock())
        async with lock, asyncio.timeout(_REBUILD_S):
            current = await self._sessions.reload(session)
            if current is None:
                raise SessionLostError("the session was closed meanwhile")
            if current.generation != session.generation:
                return current
            upstream_id = await _initialize(session, upstream, credentials)
            rebound = await self._sessions.rebind(session, upstream_id)
            if rebound.upstream_id != upstream_id:
                await _discard(upstream_id, session, upstream, credentials)
            return rebound


async def _initialize(session: Session, upstream: Upstream, credentials: Sequence[Header]) -> str:
    """Open a new upstream session with the client's own parameters; return its id."""
    request = {"jsonrpc": "2.0", "id": _INITIALIZE_ID, "method": "initialize", "params": session.initialize}
    response = await upstream.send(b"POST", [*_HEADERS, *credentials], encode(request))
    async with response:
        upstream_id = next((value for name, value in response.headers if name == SESSION_HEADER), None)
        message = await _first_message(response)
    if response.status >= 300 or upstream_id is None or "result" not in message:
        raise SessionLostError(f"the server refuses to open the session again (HTTP {response.status})")
    done = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    headers = _bound(upstream_id.decode("ascii", "replace"), session, credentials)
    async with await upstream.send(b"POST", headers, encode(done)) as response:
        await response.read(_LIMIT_BYTES)
    return upstream_id.decode("ascii", "replace")


async def _first_message(response: UpstreamResponse) -> dict[str, object]:
    if content_type(response) != b"text/event-stream":
        body = await response.read(_LIMIT_BYTES)
        return decode_message(body) if response.status < 300 else {}
    async for event in events(response):
        message = message_of(event)
        if message is not None and message.get("id") == _INITIALIZE_ID:
            return message
    raise BrokenAnswerError("the server did not answer initialize")


async def _discard(upstream_id: str, session: Session, upstream: Upstream, credentials: Sequence[Header]) -> None:
    """Another replica was faster: end the session that nobody will use."""
    async with await upstream.send(b"DELETE", _bound(upstream_id, session, credentials), b"") as response:
        await response.read(_LIMIT_BYTES)


def _bound(upstream_id: str, session: Session, credentials: Sequence[Header]) -> list[Header]:
    version = (b"mcp-protocol-version", session.protocol_version.encode())
    return [*_HEADERS, *credentials, (SESSION_HEADER, upstream_id.encode()), version]
