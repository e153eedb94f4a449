"""Every code with which a caller is not believed: stable, unique, explained in docs/identity.md."""

from dataclasses import dataclass
from enum import StrEnum


class AuthCode(StrEnum):
    """Why nobody was recognised. Each code has one meaning and one HTTP status (`STATUS`)."""

    MISSING = "auth.missing"
    SCHEME = "auth.scheme"
    DUPLICATE = "auth.duplicate"
    TOKEN_IN_QUERY = "auth.token_in_query"  # noqa: S105 - a code, not a secret
    MALFORMED = "auth.malformed"
    TYPE = "auth.type"
    ALGORITHM = "auth.algorithm"
    KEY = "auth.key"
    KEYS_UNAVAILABLE = "auth.keys_unavailable"
    SIGNATURE = "auth.signature"
    CLAIMS = "auth.claims"
    EXPIRED = "auth.expired"
    NOT_YET_VALID = "auth.not_yet_valid"
    ISSUER = "auth.issuer"
    AUDIENCE = "auth.audience"
    CONFLICT = "auth.conflict"
    IDENTITY_UNSIGNED = "auth.identity_unsigned"
    IDENTITY_DUPLICATE = "auth.identity_duplicate"
    IDENTITY_MALFORMED = "auth.identity_malformed"
    IDENTITY_KEY = "auth.identity_key"
    IDENTITY_STALE = "auth.identity_stale"
    IDENTITY_SIGNATURE = "auth.identity_signature"
    IDENTITY_REPLAYED = "auth.identity_replayed"
    IDENTITY_STORE = "auth.identity_store"
    IDENTITY_SERVER = "auth.identity_server"
    IDENTITY_CEILING = "auth.identity_ceiling"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a credential proves nothing. `reason` never quotes what the caller sent."""

    code: AuthCode
    reason: str


STATUS: dict[AuthCode, int] = {
    **dict.fromkeys(AuthCode, 401),
    AuthCode.DUPLICATE: 400,
    AuthCode.CONFLICT: 400,
    AuthCode.IDENTITY_DUPLICATE: 400,
    AuthCode.IDENTITY_SERVER: 403,
    AuthCode.IDENTITY_CEILING: 403,
    AuthCode.KEYS_UNAVAILABLE: 503,
    AuthCode.IDENTITY_STORE: 503,
}
