"""The outside of a token: compact JWS (RFC 7515) taken apart strictly, and its signature checked. Pure."""

from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from jwt.algorithms import Algorithm, get_default_algorithms
from jwt.exceptions import PyJWTError
from jwt.utils import base64url_decode, base64url_encode

from proxy.auth.codes import AuthCode, Fault

MAX_TOKEN_BYTES = 16_384
MAX_KID = 256
HMAC_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
# A token of another kind (an ID-JAG, a logout token) is not an access token (RFC 8725 §3.11, RFC 9068 §4).
ACCESS_TOKEN_TYPES = frozenset({None, "jwt", "at+jwt", "application/at+jwt"})
# What a header may say without changing what is signed; `crit` and `b64` would, so they are refused.
_ALTERING = frozenset({"crit", "b64", "zip", "enc"})
_ALGORITHMS: Mapping[str, Algorithm] = get_default_algorithms()
_JSON = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True, slots=True)
class Token:
    """A token that has the right shape; nothing in it is believed yet."""

    algorithm: str
    kid: str | None
    payload: bytes = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """A key and the algorithms that it may verify. `not_after` is in seconds since the epoch."""

    kid: str | None
    algorithms: frozenset[str]
    material: Any = field(repr=False)
    not_after: float | None = None

    def is_live(self, now: float) -> bool:
        """Whether the key may still be used."""
        return self.not_after is None or now < self.not_after


def parse_token(raw: bytes, types: frozenset[str | None] = ACCESS_TOKEN_TYPES) -> Token | Fault:
    """Take a compact JWS apart: three canonical base64url segments, a JSON header that changes nothing."""
    segments = raw.split(b".")
    if len(raw) > MAX_TOKEN_BYTES or len(segments) != 3:
        return Fault(AuthCode.MALFORMED, "the token is not a signed JWT")
    try:
        header, payload, signature = (_decode_segment(segment) for segment in segments)
        fields = _JSON.decode(header)
    except (ValueError, Base64Error, RecursionError):
        return Fault(AuthCode.MALFORMED, "the token is not a signed JWT")
    fault = _check_header(fields, types)
    signed = raw[: raw.rindex(b".")]
    return fault or Token(fields["alg"], fields.get("kid"), payload, signed, signature)


def _decode_segment(segment: bytes) -> bytes:
    decoded = base64url_decode(segment)
    if base64url_encode(decoded) != segment:
        raise ValueError("not canonical base64url")
    return decoded


def _check_header(fields: Mapping[str, Any], types: frozenset[str | None]) -> Fault | None:
    kind = fields.get("typ")
    if not (kind is None or isinstance(kind, str)) or (kind and kind.lower()) not in types:
        return Fault(AuthCode.TYPE, "the token is of another type than an access token")
    if not _ALTERING.isdisjoint(fields):
        return Fault(AuthCode.MALFORMED, "the token's header asks for processing that is not supported")
    kid = fields.get("kid")
    if not isinstance(fields.get("alg"), str) or not (kid is None or (isinstance(kid, str) and len(kid) <= MAX_KID)):
        return Fault(AuthCode.MALFORMED, "the token's header is not usable")
    return None


def is_signed_by(token: Token, key: VerifyKey) -> bool:
    """Whether `key` signed the token. A key never verifies an algorithm that is not its own (RFC 8725 §3.1)."""
    if token.algorithm not in key.algorithms:
        return False
    try:
        return _ALGORITHMS[token.algorithm].verify(token.signed, key.material, token.signature)
    except (PyJWTError, ValueError, TypeError):
        return False


def decode_payload(token: Token) -> dict[str, Any] | Fault:
    """Decode the claims. Call it only after the signature was checked."""
    try:
        return _JSON.decode(token.payload)
    except (ValueError, RecursionError):
        return Fault(AuthCode.MALFORMED, "the token's claims are not a JSON object")


def sign_hs256(payload: bytes, secret: bytes, kid: str) -> bytes:
    """Sign claims with HMAC-SHA-256 (the development issuer)."""
    header = msgspec.json.encode({"alg": "HS256", "kid": kid, "typ": "at+jwt"})
    signed = base64url_encode(header) + b"." + base64url_encode(payload)
    algorithm = _ALGORITHMS["HS256"]
    return signed + b"." + base64url_encode(algorithm.sign(signed, algorithm.prepare_key(secret)))


def hmac_key(kid: str, secret: bytes, not_after: float | None = None) -> VerifyKey:
    """Build the key of a shared secret, for the algorithms that its length is enough for (RFC 7518 §3.2)."""
    allowed = frozenset(name for name, size in HMAC_BYTES.items() if len(secret) >= size)
    if not allowed:
        raise ValueError(f"key {kid!r} has {len(secret)} bytes; HS256 needs {HMAC_BYTES['HS256']} or more")
    return VerifyKey(kid, allowed, _ALGORITHMS["HS256"].prepare_key(secret), not_after)
