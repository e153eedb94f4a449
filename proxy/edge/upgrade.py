"""The body of a request that would rather speak another protocol: the wish is ignored (RFC 9110 §7.8), the body is not.

Java's HTTP client asks for h2c with every first request, and llhttp stops at the head of such a request.
"""

from collections.abc import Callable
from dataclasses import dataclass

import httptools

from proxy.edge.head import Headers

_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


@dataclass(frozen=True, slots=True)
class _Sink:
    """What the parser reports to; the names are its own."""

    on_body: Callable[[bytes], None]
    on_message_complete: Callable[[], None]


def parser_of_body(
    headers: Headers, on_body: Callable[[bytes], None], on_complete: Callable[[], None]
) -> httptools.HttpRequestParser:
    """Return a parser for what comes after a head with these headers; without a body it is complete at once."""
    parser = httptools.HttpRequestParser(_Sink(on_body, on_complete))
    framing = b"".join([b"%b: %b\r\n" % header for header in headers if header[0] in _FRAMING])
    parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % framing)
    return parser
