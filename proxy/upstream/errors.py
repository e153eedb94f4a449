"""What can go wrong on the way to an upstream.

UpstreamError
├── UpstreamInvalidRequest     we were asked to send something that is not HTTP
├── UpstreamBusy               no connection became free in time, or too many wait already
├── UpstreamUnreachable        name not resolved, connection refused, TLS failed, pool closed
├── UpstreamTimeout            `phase` says which limit ran out
├── UpstreamProtocolError      what came back is not the HTTP that we asked for
│   └── UpstreamDisconnected   the connection ended before the answer did
└── UpstreamTooLarge           the body exceeds a limit
"""

# ruff: noqa: N818 (the names say what happened; every one of them is an UpstreamError)

from typing import ClassVar, Literal

Phase = Literal["connect", "first_byte", "idle", "total"]


class UpstreamError(Exception):
    """A request that got no whole answer; `sent` tells whether the upstream may have seen any of it."""

    code: ClassVar[str] = "upstream.error"
    status: ClassVar[int] = 502

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class UpstreamInvalidRequest(UpstreamError):
    code = "upstream.invalid_request"
    status = 500

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=False)


class UpstreamBusy(UpstreamError):
    code = "upstream.busy"
    status = 503

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=False)


class UpstreamUnreachable(UpstreamError):
    code = "upstream.unreachable"

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=False)


class UpstreamTimeout(UpstreamError):
    code = "upstream.timeout"
    status = 504

    def __init__(self, phase: Phase, *, sent: bool) -> None:
        super().__init__(f"upstream exceeded its {phase} limit", sent=sent)
        self.phase: Phase = phase


class UpstreamProtocolError(UpstreamError):
    code = "upstream.protocol"

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=True)


class UpstreamDisconnected(UpstreamProtocolError):
    code = "upstream.disconnected"


class UpstreamTooLarge(UpstreamError):
    code = "upstream.too_large"

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=True)
