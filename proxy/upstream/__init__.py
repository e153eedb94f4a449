"""A keep-alive HTTP/1.1 client pool to one upstream MCP server: the only road out of the proxy.

`pool` hands out connections, `connection` speaks HTTP on one socket, `response` buffers a body for its reader,
`request` and `head` are pure, `repeated` knows heads that came before. Nothing here retries: a request of which one
byte was written is never sent twice.
"""

from proxy.upstream.errors import (
    UpstreamBusy,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamInvalidRequest,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamUnreachable,
)
from proxy.upstream.pool import PoolStats, UpstreamPool
from proxy.upstream.response import UpstreamResponse
from proxy.upstream.target import UpstreamLimits, UpstreamTarget

__all__ = [
    "PoolStats",
    "UpstreamBusy",
    "UpstreamDisconnected",
    "UpstreamError",
    "UpstreamInvalidRequest",
    "UpstreamLimits",
    "UpstreamPool",
    "UpstreamProtocolError",
    "UpstreamResponse",
    "UpstreamTarget",
    "UpstreamTimeout",
    "UpstreamTooLarge",
    "UpstreamUnreachable",
]
