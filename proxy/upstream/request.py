"""Render an HTTP/1.1 request. Pure."""

import re
from collections.abc import Sequence

from proxy.upstream.errors import UpstreamInvalidRequest

Headers = Sequence[tuple[bytes, bytes]]

# RFC 9110 §5.6.2 token, then a value without control characters (HTAB is allowed inside).
_FIELD_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [^\x00-\x08\x0a-\x1f\x7f]*")
_METHOD = re.compile(rb"[A-Z]+")
_TARGET = re.compile(rb"/[!-\"$-~]*")

_OURS = frozenset(
    {
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"upgrade",
        b"expect",
        b"accept-encoding",
    }
)
"""Framing and routing are decided here alone; a caller that names one of these has made a mistake."""


def render_request(method: bytes, path: bytes, authority: bytes, headers: Headers, body: bytes) -> bytes:
    """Return the bytes of the whole request; UpstreamInvalidRequest where a part of it is not valid HTTP."""
    return with_body(method, render_head(method, path, authority, headers), body)


def with_body(method: bytes, head: bytes, body: bytes) -> bytes:
    """Return the request of a head that `render_head` has made."""
    if body or method not in {b"GET", b"HEAD", b"DELETE"}:
        return b"%b\r\ncontent-length: %d\r\n\r\n%b" % (head, len(body), body)
    return head + b"\r\n\r\n"


def render_head(method: bytes, path: bytes, authority: bytes, headers: Headers) -> bytes:
    """Return request line and headers, but for the length and the end; raise as `render_request` does."""
    if _METHOD.fullmatch(method) is None or _TARGET.fullmatch(path) is None:
        raise UpstreamInvalidRequest("method or path is not valid in an HTTP request line")
    lines = [b"%b %b HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity" % (method, path, authority)]
    for name, value in headers:
        line = b"%b: %b" % (name, value)
        if _FIELD_LINE.fullmatch(line) is None or name.lower() in _OURS:
            raise UpstreamInvalidRequest(f"header {name[:64]!r} cannot be sent upstream")
        lines.append(line)
    return b"\r\n".join(lines)
