"""The legacy era's sessions: one child each, because what a server says there carries no hint whose it is."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Final, cast

from proxy.bridge.child import Spawner
from proxy.bridge.frames import JsonObject, Kind, RequestId, error_message, render_message
from proxy.bridge.link import Link
from proxy.bridge.places import Places
from proxy.bridge.replies import Failure
from proxy.bridge.residents import CLOSING, FULL
from proxy.bridge.stream import Stream
from proxy.errors import BAD_GATEWAY, SESSION_UNKNOWN
from proxy.wire.era import LEGACY_VERSIONS

ENDED: Final = Failure(404, SESSION_UNKNOWN, "Session not found: it has ended, initialize again")
_CANCELLED: Final = -32800
_STANDING: Final = "s"
_MAX_KEPT_STREAMS: Final = 64
_MAX_KEPT_BYTES: Final = 1024 * 1024
_MAX_QUESTIONS: Final = 1_000
# Never about one request, so they go to the standing stream even while a call is in flight.
_STANDING_METHODS: Final = frozenset(
    {
        "notifications/tools/list_changed",
        "notifications/prompts/list_changed",
        "notifications/resources/list_changed",
        "notifications/resources/updated",
    }
)


class Session:
    """One client and its child. `principal` is the header lines of who opened it; the session is nobody else's."""

    def __init__(self, principal: Sequence[str], place: Places, on_over: Callable[["Session"], None]) -> None:
        self.id = secrets.token_urlsafe(24)
        self.principal = principal
        self.version = LEGACY_VERSIONS[0]
        self.is_open = False
        self.standing = Stream(_STANDING, is_replayable=True)
        self.link = Link(self, is_modern=False, place=place)
        self._on_over = on_over
        self._kept: dict[str, Stream] = {}
        self._questions: dict[RequestId, None] = {}
        self._next_stream = 1

    def establish(self, answer: JsonObject) -> bool:
        """Take the server's answer to `initialize`; whether it opened the session."""
        result: object = answer.get("result")
        if not isinstance(result, dict):
            return False
        version: object = cast("JsonObject", result).get("protocolVersion")
        self.version = version if isinstance(version, str) else self.version
        self.is_open = True
        return True

    def call(self, request: JsonObject) -> Stream | Failure:
        """Send a request; the stream can be resumed until it is released."""
        stream = Stream(str(self._next_stream), is_replayable=True)
        self._next_stream += 1
        ticket = self.link.call(request, stream)
        if isinstance(ticket, Failure):
            return ticket
        self._kept[stream.name] = stream
        self._forget_old_streams()
        return stream

    def stream(self, name: str) -> Stream | None:
        return self.standing if name == _STANDING else self._kept.get(name)

    def release(self, stream: Stream) -> None:
        """Nobody can ask for this stream again."""
        self._kept.pop(stream.name, None)

    def take_notification(self, message: JsonObject) -> None:
        """Pass it on; a cancellation also ends the cancelled request's stream, because servers fall silent."""
        if message["method"] != "notifications/cancelled":
            self.link.tell(message)
            return
        params = cast("JsonObject", message.get("params") or {})
        ticket = self.link.of_client_id(params.get("requestId", ""))
        if ticket is None or ticket.method == "initialize":
            return
        self.link.cancel(ticket, str(params.get("reason", "cancelled by the client")))
        ticket.sink.push(render_message(error_message(ticket.client_id, _CANCELLED, "Request cancelled")), is_last=True)

    def take_answer(self, message: JsonObject) -> None:
        """Pass on the client's answer to a question of the server; an answer nobody asked for is dropped."""
        if message["id"] in self._questions:
            del self._questions[message["id"]]
            self.link.tell(message)

    def on_unrelated(self, link: Link, message: JsonObject, kind: Kind) -> None:
        """Give it to the one call in flight, else to the standing stream, which keeps it until somebody reads."""
        if kind is Kind.REQUEST:
            self._questions[message["id"]] = None
            while len(self._questions) > _MAX_QUESTIONS:
                del self._questions[next(iter(self._questions))]
        only = link.only_call() if self.is_open else None
        is_standing = message["method"] in _STANDING_METHODS and self.standing.is_read
        stream = self.standing if only is None or is_standing else only.sink
        stream.push(render_message(message))

    def on_over(self, link: Link) -> None:
        del link
        self.standing.close()
        self._on_over(self)

    def _forget_old_streams(self) -> None:
        finished = [stream for stream in self._kept.values() if stream.is_closed and not stream.is_read]
        held_bytes = sum(stream.held_bytes for stream in finished)
        for stream in finished:
            if len(finished) <= _MAX_KEPT_STREAMS and held_bytes <= _MAX_KEPT_BYTES:
                return
            held_bytes -= stream.held_bytes
            self.release(stream)


class Sessions:
    """All sessions of a bridge."""

    def __init__(self, spawner: Spawner, places: Places) -> None:
        self._spawner = spawner
        self._places = places
        self._sessions: dict[str, Session] = {}
        self._endings: set[asyncio.Task[None]] = set()
        self._is_closing = False

    def __len__(self) -> int:
        return len(self._sessions)

    async def open(self, principal: Sequence[str]) -> Session | Failure:
        """Open a session with a fresh child that was not spoken to yet."""
        if self._is_closing:
            return CLOSING
        if not self._places.take():
            return FULL
        session = Session(principal, self._places, self._forget)
        self._sessions[session.id] = session
        try:
            await session.link.start(self._spawner)
        except OSError as error:
            self._forget(session)
            return Failure(502, BAD_GATEWAY, f"the server process cannot be started: {error.strerror}")
        return session

    def find(self, session_id: str, principal: Sequence[str]) -> Session | None:
        """Return the open session of this id, if it is the principal's."""
        session = self._sessions.get(session_id)
        is_usable = session is not None and session.is_open and session.principal == principal
        return session if is_usable else None

    def end(self, session: Session, failure: Failure = ENDED) -> None:
        """Make it unknown from now on; its child ends in the background."""
        self._forget(session)
        session.standing.close()
        ending = asyncio.create_task(session.link.stop(failure))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    def reap_idle(self, idle_s: float) -> None:
        """End the sessions with nothing in flight, no open stream, and no message for so long."""
        now = asyncio.get_running_loop().time()
        for session in tuple(self._sessions.values()):
            is_idle = not session.link.in_flight and not session.standing.is_read
            if is_idle and now - session.link.idle_since >= idle_s:
                self.end(session)

    async def close(self) -> None:
        self._is_closing = True
        for session in tuple(self._sessions.values()):
            self.end(session, CLOSING)
        await asyncio.gather(*self._endings)

    def _forget(self, session: Session) -> None:
        self._sessions.pop(session.id, None)
