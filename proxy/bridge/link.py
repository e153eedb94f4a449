"""One child and the requests that are on it."""

import asyncio
from typing import Final, Protocol, TypeAlias

from proxy.bridge.child import Child, Spawner
from proxy.bridge.frames import (
    FrameError,
    JsonObject,
    Kind,
    Oversized,
    error_message,
    parse_message,
    render_message,
)
from proxy.bridge.log import write_line
from proxy.bridge.multiplex import Multiplexer, Related, Stray, Ticket, Unrelated
from proxy.bridge.places import Places
from proxy.bridge.replies import Failure
from proxy.bridge.stream import Stream
from proxy.errors import BAD_GATEWAY, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR, UNAVAILABLE

MAX_IN_FLIGHT: Final = 1_024
MAX_BACKLOG_BYTES: Final = 32 * 1024 * 1024
# S:basic/index, Error Codes: what an error of the server means as an HTTP status on the modern era.
_STATUS_OF_CODE: Final = {
    PARSE_ERROR: 400,
    INVALID_REQUEST: 400,
    INVALID_PARAMS: 400,
    -32020: 400,
    -32021: 400,
    -32022: 400,
    METHOD_NOT_FOUND: 404,
}
EXITED: Final = Failure(502, BAD_GATEWAY, "the server process ended before it answered")
OVERLOADED: Final = Failure(
    503, UNAVAILABLE, "the server process does not keep up with its requests", headers=((b"retry-after", b"1"),)
)

CallTicket: TypeAlias = Ticket[Stream]


class Owner(Protocol):
    """Who decides about messages that name no request, and learns that the child is gone."""

    def on_unrelated(self, link: "Link", message: JsonObject, kind: Kind) -> None: ...

    def on_over(self, link: "Link") -> None: ...


class Link:
    """Requests in, messages out to their streams. `idle_since` is the loop time of the last sign of life.

    `place` is the one this child takes, if it needs one.
    """

    def __init__(self, owner: Owner, *, is_modern: bool, place: Places | None = None) -> None:
        self._owner = owner
        self._place = place
        self._is_modern = is_modern
        self._requests: Multiplexer[Stream] = Multiplexer(is_modern=is_modern)
        self._child: Child | None = None
        self._end = EXITED
        self._is_stopped = False
        self.is_over = False
        self.idle_since = asyncio.get_running_loop().time()

    async def start(self, spawner: Spawner) -> None:
        """Start the child; OSError when the command cannot be executed. The place is given back at its end."""
        try:
            self._child = await spawner.spawn(self)
        except OSError:
            self._give_back_place()
            raise
        if self._is_stopped:
            await self._child.stop()

    @property
    def in_flight(self) -> int:
        return len(self._requests)

    @property
    def end(self) -> Failure | None:
        """Why nothing can be asked any more; None while the child serves."""
        return self._end if self.is_over or self._is_stopped else None

    def call(self, request: JsonObject, stream: Stream) -> CallTicket | Failure:
        """Send a request; its messages, and sooner or later a last one, come to the stream."""
        if self._child is None or self.end is not None:
            return self._end
        if len(self._requests) >= MAX_IN_FLIGHT or self._child.backlog_bytes > MAX_BACKLOG_BYTES:
            return OVERLOADED
        ticket, outgoing = self._requests.admit(request, stream)
        self._child.write(render_message(outgoing))
        self._mark_use()
        return ticket

    def tell(self, message: JsonObject) -> None:
        """Send a notification, or an answer to a request of the server."""
        if self._child is not None and self.end is None:
            self._child.write(render_message(message))
            self._mark_use()

    def cancel(self, ticket: CallTicket, reason: str) -> None:
        """Ask the server to give up a request; whatever still comes for it is dropped."""
        if self._requests.retire(ticket.number) is None:
            return
        params = {"requestId": ticket.number, "reason": reason}
        self.tell({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
        self._mark_use()

    def of_client_id(self, client_id: int | str) -> CallTicket | None:
        return self._requests.of_client_id(client_id)

    def only_call(self) -> CallTicket | None:
        return self._requests.only_call()

    async def stop(self, end: Failure = EXITED) -> None:
        """Answer what is in flight with `end`, then end the child and all it started, even if it is only starting."""
        self._end = end
        self._is_stopped = True
        self._fail_all(end)
        if self._child is not None:
            await self._child.stop()

    def on_frame(self, frame: bytes | Oversized) -> None:
        if isinstance(frame, Oversized):
            self._refuse_oversized(frame)
            return
        try:
            message = parse_message(frame)
        except FrameError as error:
            self._log(f"not a frame: {error}")
            return
        self._deliver(message)

    def on_exit(self, returncode: int) -> None:
        self.is_over = True
        self._log(f"exited with {returncode}")
        self._fail_all(self._end)
        self._give_back_place()
        self._owner.on_over(self)

    def _deliver(self, message: JsonObject) -> None:
        match self._requests.route(message):
            case Related(ticket, related, is_last):
                self._push(ticket, related, is_last=is_last)
            case Unrelated(unrelated, kind):
                self._owner.on_unrelated(self, unrelated, kind)
            case Stray(reason):
                self._log(f"dropped: {reason}")

    def _push(self, ticket: CallTicket, message: JsonObject, *, is_last: bool) -> None:
        try:
            body = render_message(message)
        except FrameError as error:
            self._log(f"dropped: {error}")
            if is_last:
                self._fail(ticket, Failure(502, BAD_GATEWAY, "the server's answer is not JSON"))
            return
        ticket.sink.push(body, is_last=is_last, status=self._status_of(message))
        self._mark_use()

    def _status_of(self, message: JsonObject) -> int:
        error: object = message.get("error")
        if not self._is_modern or not isinstance(error, dict):
            return 200
        return _STATUS_OF_CODE.get(message["error"].get("code"), 200)

    def _refuse_oversized(self, frame: Oversized) -> None:
        """Give the caller of that answer an error; when it cannot be told whose it was, all callers get it."""
        self._log(f"dropped: a frame of {frame.size_bytes} bytes")
        failure = Failure(502, BAD_GATEWAY, f"the server's answer is too large ({frame.size_bytes} bytes)")
        ticket = None if frame.request_id is None else self._requests.retire(frame.request_id)
        if ticket is not None:
            self._fail(ticket, failure)
        elif frame.request_id is None:
            self._fail_all(failure)

    def _fail_all(self, failure: Failure) -> None:
        for ticket in self._requests.tickets:
            self._requests.retire(ticket.number)
            self._fail(ticket, failure)

    def _fail(self, ticket: CallTicket, failure: Failure) -> None:
        answer = error_message(ticket.client_id, failure.code, failure.reason, failure.data)
        ticket.sink.push(render_message(answer), is_last=True, status=failure.status)
        self._mark_use()

    def _give_back_place(self) -> None:
        if self._place is not None:
            self._place.give_back()
            self._place = None

    def _mark_use(self) -> None:
        self.idle_since = asyncio.get_running_loop().time()

    def _log(self, text: str) -> None:
        label = self._child.label if self._child else "-"
        write_line(label, f"bridge: {text}")


async def ask(link: Link, request: JsonObject, limit_s: float) -> JsonObject | Failure | None:
    """One request of the bridge's own and its answer; None when the time is up, Failure when the child is no more."""
    stream = Stream("ask", is_replayable=False)
    ticket = link.call(request, stream)
    if isinstance(ticket, Failure):
        return ticket
    cursor = 0
    try:
        async with asyncio.timeout(limit_s):
            while True:
                event = stream.next_after(cursor)
                if event is None:
                    await stream.change()
                elif event.is_last:
                    return link.end or parse_message(event.body)
                else:
                    cursor = event.seq
    except TimeoutError:
        link.cancel(ticket, "no answer in time")
        return None
