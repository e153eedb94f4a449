"""The signature of `x-proxy-verified` (SPEC I7, docs/identity.md): canonical string and header. Pure.

x-proxy-verified: v1;kid=sso-1;ts=1800000000;nonce=…;sig=…      four fields, in this order, nothing else
"""

import re
from base64 import urlsafe_b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass
from hashlib import sha256

from jwt.utils import base64url_decode

VERSION = "postern-v1"
_HEADER = re.compile(
    rb"v1;kid=([A-Za-z0-9._-]{1,64});ts=([1-9][0-9]{0,11});nonce=([A-Za-z0-9_-]{16,64});sig=([A-Za-z0-9_-]{43,86})"
)


@dataclass(frozen=True, slots=True)
class Signed:
    """Everything that the signature covers. `user` and `permissions` are the header values as they are sent."""

    kid: str
    algorithm: str
    timestamp: int
    nonce: str
    method: str
    target: str
    audience: str
    user: str
    permissions: str
    body: bytes

    def canonical(self) -> bytes:
        """Return the bytes to sign: one field a line. Raises `ValueError` if a field could pass for two."""
        lines = [
            VERSION,
            self.kid,
            self.algorithm,
            str(self.timestamp),
            self.nonce,
            self.method,
            self.target,
            self.audience,
            self.user,
            self.permissions,
            sha256(self.body).hexdigest(),
        ]
        if not all(line.isprintable() for line in lines):
            raise ValueError("a field of the signature holds a control character")
        return "\n".join(lines).encode()


@dataclass(frozen=True, slots=True)
class Mark:
    """The value of `x-proxy-verified`."""

    kid: str
    timestamp: int
    nonce: str
    signature: bytes

    def header(self) -> str:
        """Return the header's value."""
        encoded = urlsafe_b64encode(self.signature).rstrip(b"=").decode()
        return f"v1;kid={self.kid};ts={self.timestamp};nonce={self.nonce};sig={encoded}"


def parse_mark(value: bytes) -> Mark | None:
    """Read the header; None unless every byte of it is as `Mark.header` writes it."""
    found = _HEADER.fullmatch(value)
    if found is None:
        return None
    kid, timestamp, nonce, encoded = found.groups()
    try:
        signature = base64url_decode(encoded)
    except (Base64Error, ValueError):
        return None
    mark = Mark(kid.decode(), int(timestamp), nonce.decode(), signature)
    return mark if mark.header().encode() == value else None
