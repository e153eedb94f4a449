"""Request lines judged, answer heads rendered. Pure."""

import re
from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import unquote

MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 100
MAX_TARGET_BYTES = 8 * 1024

BODYLESS = frozenset({204, 304})
"""Answers without a body, even an empty one."""
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_VERSIONS = frozenset({"1.0", "1.1"})
_CONTROLS = bytes({*range(0x20), 0x7F} - {ord("\t")})
_AUTHORITY = re.compile(rb"http://([^/?#]*)(/[^#]*)?", re.IGNORECASE)

Headers = Sequence[tuple[bytes, bytes]]


class BadRequestError(Exception):
    """A request that is answered here, with `status` and the message as text, and ends its connection."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def check_framing(version: str, headers: Headers, fed_bytes: int) -> None:
    """Refuse what llhttp lets pass and we do not speak. `fed_bytes`: at least as many as the head has."""
    if version not in _VERSIONS:
        raise BadRequestError(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    too_large = fed_bytes > MAX_HEAD_BYTES and sum(len(name) + len(value) for name, value in headers) > MAX_HEAD_BYTES
    if too_large or len(headers) > MAX_HEADERS:
        raise BadRequestError(431, "the header section is too large")
    for name, value in headers:
        if name == b"transfer-encoding" and (value.lower() != b"chunked" or version == "1.0"):
            raise BadRequestError(501, "no transfer coding but chunked is understood")


def read_target(target: bytes, headers: Headers) -> tuple[str, bytes]:
    """Return path, decoded, and query. The absolute form (RFC 9112 §3.2.2) must name the host of the Host header."""
    if len(target) > MAX_TARGET_BYTES:
        raise BadRequestError(414, "the request target is too long")
    if not target.startswith(b"/") and target != b"*":
        absolute = _AUTHORITY.fullmatch(target)
        hosts = [value.lower() for name, value in headers if name == b"host"]
        if absolute is None or hosts != [absolute[1].lower()]:
            raise BadRequestError(400, "the request target is not a path of this host")
        target = absolute[2] or b"/"
    path, _, query = target.partition(b"?")
    if b"#" in target or not path.isascii():
        raise BadRequestError(400, "the request target is not valid")
    text = path.decode("ascii")
    return (unquote(text) if "%" in text else text), query


def render_head(status: int, headers: Headers, framing: bytes, body: bytes = b"") -> bytes:
    """Return status line, headers and the empty line, then `body`; `framing` is whole header lines, or none."""
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    if len(lines) - len(lines.translate(None, _CONTROLS)) != 2 * len(headers):  # the line ends
        raise ValueError("a header of the answer holds a control character")
    start = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    return b"%b%b%b\r\n%b" % (start, lines, framing, body)
