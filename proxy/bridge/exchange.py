"""One HTTP request, as the endpoints see it."""

from typing import Final

from proxy.bridge.frames import FrameError, JsonObject, RequestId, parse_message, readable_id
from proxy.bridge.headers import RequestHeaders
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
from proxy.errors import INVALID_REQUEST, PARSE_ERROR, TOO_LARGE

_NOT_ACCEPTABLE: Final = Failure(406, INVALID_REQUEST, "Accept must have application/json and text/event-stream")
_NOT_JSON: Final = Failure(415, INVALID_REQUEST, "Content-Type must be application/json")
_TOO_LARGE: Final = Failure(413, TOO_LARGE, "the request body is too large")


class Exchange:
    """A request with its way to answer. Errors echo the request's id as soon as it is known."""

    def __init__(self, method: str, headers: RequestHeaders, receive: Receive, send: Send, cap_bytes: int) -> None:
        self.method = method
        self.headers = headers
        self.receive = receive
        self.send = send
        self._cap_bytes = cap_bytes
        self._request_id: RequestId | None = None

    async def read_message(self) -> JsonObject | None:
        """Return the body as one JSON object; None when it was refused, or the client left."""
        failure = _refuse_media_types(self.headers)
        if failure is not None:
            await self.refuse(failure)
            return None
        try:
            message = parse_message(await read_body(self.receive, self._cap_bytes))
        except DisconnectedError:
            return None
        except BodyTooLargeError:
            await self.refuse(_TOO_LARGE)
            return None
        except FrameError as error:
            await self.refuse(Failure(400, PARSE_ERROR, f"Parse error: {error}"))
            return None
        self._request_id = readable_id(message)
        return message

    async def refuse(self, failure: Failure) -> None:
        await send_failure(self.send, failure, self._request_id)

    async def accept(self, status: int = 202, headers: Headers = ()) -> None:
        """Answer that it was taken."""
        await send_json(self.send, status, b"", headers)

    def accepts_events(self) -> bool:
        return bool(_media_types(self.headers) & {"*/*", "text/*", "text/event-stream"})


def _media_types(headers: RequestHeaders) -> set[str]:
    offered = ",".join(headers.lines("accept")).split(",")
    return {one.partition(";")[0].strip().lower() for one in offered}


def _refuse_media_types(headers: RequestHeaders) -> Failure | None:
    accepted = _media_types(headers)
    if not accepted & {"*/*", "application/*", "application/json"}:
        return _NOT_ACCEPTABLE
    if not accepted & {"*/*", "text/*", "text/event-stream"}:
        return _NOT_ACCEPTABLE
    content_type = (headers.get("content-type") or "").partition(";")[0].strip().lower()
    return None if content_type == "application/json" else _NOT_JSON
