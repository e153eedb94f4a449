"""What a caller is told when a server did not answer as it must. Pure."""

from proxy import errors
from proxy.errors import Refusal
from proxy.upstream import UpstreamError, UpstreamUnreachable


def refusal_of(error: UpstreamError, server: str) -> Refusal:
    if isinstance(error, UpstreamUnreachable):
        reason = f"server {server} cannot be reached: {error}"
        return Refusal(error.code, 503, errors.UNAVAILABLE, reason, ((b"retry-after", b"1"),))
    return Refusal(error.code, error.status, errors.BAD_GATEWAY, str(error))


def refusal_of_status(status: int) -> Refusal:
    """A server's HTTP error without a JSON-RPC body; its own authentication is not the client's business."""
    ours = 502 if status in {401, 403, 407} or status >= 500 else status
    return Refusal("upstream.http_error", ours, errors.BAD_GATEWAY, f"the server answered HTTP {status}")
