"""What a caller is told when a server answers with a bare HTTP error. Pure."""

from proxy import errors
from proxy.errors import Refusal


def refusal_of_status(status: int) -> Refusal:
    """A server's HTTP error without a JSON-RPC body; its own authentication is not the client's business."""
    ours = 502 if status in {401, 403, 407} or status >= 500 else status
    return Refusal("upstream.http_error", ours, errors.BAD_GATEWAY, f"the server answered HTTP {status}")
