"""Judge the header section of a response. Pure."""

import re
from collections.abc import Sequence

from msgspec import Struct

from proxy.upstream.errors import UpstreamProtocolError, UpstreamTooLarge

_BODYLESS = frozenset({204, 304})
_KEEPALIVE_TIMEOUT = re.compile(rb"(?:^|[\s,;])timeout=(\d{1,6})(?:$|[\s,;])", re.IGNORECASE)
_JUDGED = frozenset({b"content-length", b"transfer-encoding", b"content-encoding", b"content-type", b"keep-alive"})


class Framing(Struct, frozen=True, gc=False):
    """How the body ends, how large it may grow, and for how long the server says it keeps the connection."""

    has_body: bool
    until_close: bool
    max_body_bytes: int | None
    keepalive_s: float | None


def read_framing(status: int, headers: Sequence[tuple[bytes, bytes]], *, is_head: bool, max_body_bytes: int) -> Framing:
    """Return the framing of a final response, header names in lower case.

    UpstreamProtocolError where a coding is used that we did not ask for, UpstreamTooLarge where the declared
    length exceeds the limit. Contradicting lengths never get here: the parser refuses them.
    """
    if not 200 <= status <= 599:
        raise UpstreamProtocolError(f"upstream answered with status {status}")
    judged = {name: value.strip() for name, value in headers if name in _JUDGED}
    has_body = not is_head and status not in _BODYLESS
    _refuse_codings(judged)
    if has_body and int(judged.get(b"content-length", 0)) > max_body_bytes:
        raise UpstreamTooLarge("declared length of the upstream's body exceeds the limit")
    is_stream = judged.get(b"content-type", b"")[:17].lower() == b"text/event-stream"
    return Framing(
        has_body=has_body,
        until_close=has_body and b"content-length" not in judged and b"transfer-encoding" not in judged,
        max_body_bytes=None if is_stream else max_body_bytes,
        keepalive_s=_keepalive(judged.get(b"keep-alive")),
    )


def _refuse_codings(judged: dict[bytes, bytes]) -> None:
    transfer, content = judged.get(b"transfer-encoding"), judged.get(b"content-encoding")
    if transfer is not None and transfer.lower() != b"chunked":
        raise UpstreamProtocolError("upstream used a transfer coding other than chunked")
    if content is not None and content.lower() not in {b"", b"identity"}:
        raise UpstreamProtocolError("upstream compressed its body although only identity was accepted")


def _keepalive(value: bytes | None) -> float | None:
    """One second less than announced, so that we let go before the server does."""
    found = _KEEPALIVE_TIMEOUT.search(value) if value is not None else None
    return max(0.0, float(found[1]) - 1.0) if found is not None else None
