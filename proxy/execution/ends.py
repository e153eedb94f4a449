"""How a conversation with a server can end without its answer: what the row says, and what the client is told. Pure."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from proxy import errors
from proxy.audit.record import Status
from proxy.errors import Refusal
from proxy.upstream import UpstreamError, UpstreamTimeout, UpstreamUnreachable

RETRY_SOON = ((b"retry-after", b"1"),)


@dataclass(frozen=True, slots=True)
class End:
    """`http_status` is what the row says where no answer has begun; without `told` the client's stream just ends.

    `reached`: the server may have seen the request. `in_stream`: told as an event, even if no stream is open yet.
    `retry_ms`: what a standing stream tells its client to wait before it comes back.
    """

    status: Status
    code: str
    reason: str
    http_status: int
    told: Refusal | None = None
    reached: bool = True
    in_stream: bool = False
    retry_ms: int | None = None


class EndedError(Exception):
    """Raised where the end is found out."""

    def __init__(self, end: End) -> None:
        super().__init__(end.reason)
        self.end = end


class BrokenAnswerError(Exception):
    """The server answered, but not in MCP; the message says what was wrong."""


class SessionLostError(Exception):
    """The server does not know the session any more, and it cannot or must not be rebuilt."""


def failed(refusal: Refusal, status: Status = Status.FAILED, *, reached: bool = True) -> End:
    """The end that the client is told about."""
    return End(status, refusal.code, refusal.reason, refusal.status, refusal, reached)


def silent(status: Status, code: str, reason: str, http_status: int = 200) -> End:
    """The end of a stream that needs no words, or has nobody to hear them."""
    return End(status, code, reason, http_status)


STREAM_ENDED = silent(Status.SUCCESS, "stream.ended", "the server closed the stream")
STREAM_MOVED = silent(
    Status.INTERRUPTED,
    "stream.moved",
    "the stream ended before the answer, which the client may fetch by resuming it; "
    "an answer that is fetched has a row of its own (stream.late_answer)",
)
STREAM_TAKEN_OVER = silent(Status.SUCCESS, "stream.moved", "the client opened the stream again")
STREAM_LEFT = silent(Status.SUCCESS, "client.left", "the client closed the stream", 499)
CLIENT_LEFT = silent(Status.CANCELLED, "client.left", "the client left before the answer", 499)
CLIENT_CANCELLED = silent(
    Status.CANCELLED, "client.cancelled", "the client cancelled the request; the server gave no answer after that", 499
)
CREDENTIAL_EXPIRED = silent(
    Status.SUCCESS, "stream.credential_expired", "the credential that opened the stream expired"
)
CREDENTIAL_WITHDRAWN = silent(
    Status.SUCCESS,
    "stream.credential_withdrawn",
    "since the registry was reloaded the credential that opened the stream would not open it",
)
SESSION_EXPIRED = silent(Status.SUCCESS, "session.expired", "the session has reached its absolute timeout")
DRAINING = End(
    Status.SUCCESS,
    "stream.draining",
    "the proxy is being stopped, the client may open the stream elsewhere",
    200,
    retry_ms=3000,
)
INTERRUPTED = failed(
    Refusal("proxy.drained", 503, errors.UNAVAILABLE, "the proxy was stopped before the answer", RETRY_SOON),
    Status.INTERRUPTED,
)
UNRECORDABLE = failed(
    Refusal("audit.unavailable", 503, errors.UNAVAILABLE, "no answer without an audit row", RETRY_SOON), reached=False
)
REVOKED = failed(
    Refusal("session.revoked", 404, errors.SESSION_UNKNOWN, "the session was revoked: initialize again"),
    Status.CANCELLED,
)


def session_over(status: str) -> End:
    """What happens to the open streams of a session whose row says `status`."""
    if status == "revoked":
        return REVOKED
    return silent(Status.SUCCESS, f"session.{status}", f"the session is {status}")


def answer_lost(execution: UUID) -> End:
    """A stream is resumed whose server has lost its events: the answer that the client waits for will never come."""
    reason = f"the server was restarted and has lost the answer to request {execution}; whether it acted is not known"
    refusal = Refusal("stream.lost", 200, errors.BAD_GATEWAY, reason)
    return End(Status.FAILED, refusal.code, reason, 200, refusal, reached=False, in_stream=True)


def end_of(error: Exception, server: str) -> End:
    """Return what an error of the conversation means for its row and its client."""
    match error:
        case EndedError():
            return error.end
        case UpstreamTimeout():
            return timed_out(error.phase, reached=error.sent)
        case UpstreamUnreachable():
            sentence = f"server {server} cannot be reached"
            told = (error.code, sentence)  # where it is, and what the network says of it, is for the row
            refusal = Refusal(error.code, 503, errors.UNAVAILABLE, f"{sentence}: {error}", RETRY_SOON, told=told)
            return failed(refusal, reached=False)
        case UpstreamError():
            code = errors.UNAVAILABLE if error.status == 503 else errors.BAD_GATEWAY
            headers = RETRY_SOON if error.status == 503 else ()
            return failed(Refusal(error.code, error.status, code, str(error), headers), reached=error.sent)
        case BrokenAnswerError():
            return failed(Refusal("upstream.broken_answer", 502, errors.BAD_GATEWAY, str(error)))
        case SessionLostError():
            return failed(Refusal("session.lost", 404, errors.SESSION_UNKNOWN, str(error)), reached=False)
        case _:
            return failed(store_away(error))


def store_away(error: Exception) -> Refusal:
    """Nothing can be said about a session or a task now; what the database says of it is for the row."""
    told = ("session.store", "sessions cannot be read or kept now")
    return Refusal("session.store", 503, errors.UNAVAILABLE, str(error), RETRY_SOON, told=told)


def timed_out(phase: Literal["connect", "first_byte", "idle", "total"], *, reached: bool) -> End:
    """The end of a request that exceeded one of its four limits; the code and the setting carry the limit's name."""
    reason = f"the server exceeded the {phase} limit (timeouts.{phase}_s)"
    return failed(Refusal(f"upstream.timeout.{phase}", 504, errors.TIMED_OUT, reason), Status.TIMEOUT, reached=reached)
