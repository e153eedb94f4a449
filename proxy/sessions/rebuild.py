"""A server that lost a session gets it again from what the client once said, and the client sees nothing (SPEC S3)."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol, cast
from weakref import WeakValueDictionary

from proxy import errors
from proxy.answers import encode
from proxy.exchange import Header
from proxy.execution.ends import BrokenAnswerError, SessionLostError
from proxy.execution.relay import (
    EVENT_STREAM,
    content_type,
    decode_message,
    events,
    is_answer_to,
    message_of,
    session_id_in,
)
from proxy.sessions.store import SESSION_HEADER, Memory, Session, Sessions, SessionStoreUnavailableError
from proxy.upstream import UpstreamUnreachable
from proxy.upstream.response import UpstreamResponse

_LIMIT_BYTES = 1_048_576
_REBUILD_S = 30.0
_POLL_S = 0.05
_ID = "postern-rebuild"
_HEADERS: tuple[Header, ...] = (
    (b"content-type", b"application/json"),
    (b"accept", b"application/json, text/event-stream"),
)


class Upstream(Protocol):
    """The road to the server that lost the session."""

    async def send(self, method: bytes, headers: Sequence[Header], body: bytes) -> UpstreamResponse: ...


def is_lost(status: int, message: dict[str, object] | None) -> bool:
    """Whether an answer says that the server does not know the session.

    404 is what the specification asks for; the TypeScript SDK of the first generation answers 400 with -32000 and a
    sentence about the session instead (research/mcp.md §3.2).
    """
    if status < 400:
        return False
    found: object = message.get("error") if message else None
    error = cast("dict[str, object]", found) if isinstance(found, dict) else {}
    if status == 404:
        return error.get("code") != errors.METHOD_NOT_FOUND
    text = str(error.get("message", "")).lower()
    return status == 400 and error.get("code") == -32000 and ("session" in text or "not initialized" in text)


class Rebuilder:
    """Re-initializes lost sessions; callers that race for the same one share one attempt, in all replicas together."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def rebuild(self, session: Session, upstream: Upstream, credentials: Sequence[Header]) -> Session:
        """Return the session with a new upstream id; raise `SessionLostError` where the server refuses."""
        lock = self._locks.setdefault(session.id, asyncio.Lock())
        deadline = asyncio.timeout(_REBUILD_S)
        try:
            async with deadline, lock:
                return await self._rebuild_once(session, upstream, credentials)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise UpstreamUnreachable("the session could not be rebuilt in time") from error

    async def _rebuild_once(self, session: Session, upstream: Upstream, credentials: Sequence[Header]) -> Session:
        while True:
            current = await self._sessions.reload(session)
            if current is None:
                raise SessionLostError("the session was closed meanwhile: initialize again")
            if current.generation != session.generation:
                return current
            if await self._sessions.claim_rebuild(session, _REBUILD_S):
                return await self._rebuild_claimed(session, upstream, credentials)
            await asyncio.sleep(_POLL_S)

    async def _rebuild_claimed(self, session: Session, upstream: Upstream, credentials: Sequence[Header]) -> Session:
        try:
            opened = await self._open_again(session, upstream, credentials)
            rebound = await self._sessions.rebind(session, opened)
        except (SessionLostError, BrokenAnswerError) as error:
            await self._sessions.end(session, "lost")
            raise SessionLostError(str(error)) from error
        except BaseException:
            with suppress(SessionStoreUnavailableError):  # the right runs out by itself
                await asyncio.shield(self._sessions.release_rebuild(session))
            raise
        if rebound.upstream_id != opened:  # the right ran out while the server took its time
            await discard(opened, session.protocol_version, upstream, credentials)
        return rebound

    async def _open_again(self, session: Session, upstream: Upstream, credentials: Sequence[Header]) -> str:
        """Open an upstream session with the client's own parameters and ask for what the client had asked for."""
        memory = await self._sessions.memory(session)
        if memory is None or memory.initialize is None:
            raise SessionLostError("the server has lost this session, and it cannot be rebuilt: initialize again")
        opened = await _initialize(session, memory, upstream, credentials)
        headers = [*_HEADERS, *credentials, *_bound(opened, session.protocol_version)]
        done = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        async with await upstream.send(b"POST", headers, encode(done)) as response:
            await response.read(_LIMIT_BYTES)
        for method, params in _asked_for(memory):
            answer = await _ask(upstream, headers, method, params)
            if "result" not in answer:
                raise SessionLostError(f"the server does not take {method} again: initialize again")
        return opened


async def discard(upstream_id: str, version: str, upstream: Upstream, credentials: Sequence[Header]) -> None:
    """Tell the server that nobody will use a session any more."""
    headers = [*_HEADERS, *credentials, *_bound(upstream_id, version)]
    async with await upstream.send(b"DELETE", headers, b"") as response:
        await response.read(_LIMIT_BYTES)


async def _initialize(session: Session, memory: Memory, upstream: Upstream, credentials: Sequence[Header]) -> str:
    request = {"jsonrpc": "2.0", "id": _ID, "method": "initialize", "params": memory.initialize}
    async with await upstream.send(b"POST", [*_HEADERS, *credentials], encode(request)) as response:
        if response.status == 429 or response.status >= 500:
            raise UpstreamUnreachable(f"it answers HTTP {response.status} to the rebuilding of a session")
        upstream_id = session_id_in(response.headers)
        result = (await _answer_in(response)).get("result")
    version = cast("dict[str, object]", result).get("protocolVersion") if isinstance(result, dict) else None
    if upstream_id is None or version is None:
        raise SessionLostError(f"the server refuses to open the session again (HTTP {response.status})")
    if version != session.protocol_version:
        raise SessionLostError(f"the server now speaks {version}, the session {session.protocol_version}")
    return upstream_id


def _asked_for(memory: Memory) -> list[tuple[str, dict[str, object]]]:
    level: list[tuple[str, dict[str, object]]] = []
    if memory.log_level is not None:
        level.append(("logging/setLevel", {"level": memory.log_level}))
    return [*level, *(("resources/subscribe", {"uri": uri}) for uri in memory.subscriptions)]


async def _ask(
    upstream: Upstream, headers: Sequence[Header], method: str, params: dict[str, object]
) -> dict[str, object]:
    request = {"jsonrpc": "2.0", "id": _ID, "method": method, "params": params}
    async with await upstream.send(b"POST", headers, encode(request)) as response:
        return await _answer_in(response)


async def _answer_in(response: UpstreamResponse) -> dict[str, object]:
    if content_type(response) != EVENT_STREAM:
        body = await response.read(_LIMIT_BYTES)
        return decode_message(body) if response.status < 300 else {}
    async for event in events(response, _LIMIT_BYTES):
        message = message_of(event)
        if message is not None and is_answer_to(message, _ID):
            return message
    raise BrokenAnswerError("the server closed the stream before its answer to the rebuilding of a session")


def _bound(upstream_id: str, version: str) -> list[Header]:
    return [(SESSION_HEADER, upstream_id.encode()), (b"mcp-protocol-version", version.encode())]
