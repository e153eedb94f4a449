"""Where a credential may stand in a request, and where it may not (RFC 6750 §2.1, SEC-05). Pure."""

from collections.abc import Iterable, Sequence
from itertools import product
from urllib.parse import unquote_to_bytes

from proxy.auth.codes import AuthCode, Fault
from proxy.wire.fields import Header, fact_of, index_of

AUTHORIZATION = b"authorization"
VERIFIED, USER_ID, PERMISSIONS = b"x-proxy-verified", b"x-user-id", b"x-user-permissions"
_QUERY_NAMES = frozenset({b"access_token", b"token", b"bearer_token", b"id_token", b"jwt"})

_MISSING = Fault(AuthCode.MISSING, "a bearer token is needed")
_SCHEME = Fault(AuthCode.SCHEME, "the Authorization header must use the Bearer scheme")
_DUPLICATE = Fault(AuthCode.DUPLICATE, "the request has more than one Authorization header")


def spellings(names: Iterable[bytes]) -> frozenset[bytes]:
    """Return names with `_` for `-` in every combination: to a WSGI upstream they are the same header."""
    found: set[bytes] = set()
    for name in names:
        parts = name.lower().split(b"-")
        for joints in product((b"-", b"_"), repeat=len(parts) - 1):
            found.add(parts[0] + b"".join(joint + part for joint, part in zip(joints, parts[1:], strict=True)))
    return frozenset(found)


IDENTITY_HEADERS = spellings((VERIFIED, USER_ID, PERMISSIONS))


def query_has_token(query: bytes) -> bool:
    """Whether a raw query string carries a token by any usual name, however it is escaped."""
    if not query:
        return False
    names = (part.partition(b"=")[0] for part in query.replace(b";", b"&").split(b"&"))
    return any(unquote_to_bytes(name.replace(b"+", b" ")).strip().lower() in _QUERY_NAMES for name in names)


def find_credentials(headers: Sequence[Header], identity: frozenset[bytes]) -> tuple[bytes | Fault | None, bool]:
    """Return the one Authorization header's value (None without one), and whether identity headers are there too."""
    return fact_of(headers, identity, lambda lines: _find_credentials(lines, identity))


def _find_credentials(headers: Sequence[Header], identity: frozenset[bytes]) -> tuple[bytes | Fault | None, bool]:
    by_name = index_of(headers)
    values = by_name.get(AUTHORIZATION, ())
    found = (values[0] if len(values) == 1 else _DUPLICATE) if values else None
    return found, not identity.isdisjoint(by_name)


def read_bearer(authorization: bytes) -> bytes | Fault:
    """Return the token of a Bearer header; the scheme's case does not matter (RFC 9110 §11.1)."""
    scheme, _, token = authorization.partition(b" ")
    if scheme.lower() != b"bearer":
        return _SCHEME
    token = token.strip(b" ")
    return token or Fault(AuthCode.MALFORMED, "the Bearer header holds no token")


def missing() -> Fault:
    """Say that no credential was sent where one is needed."""
    return _MISSING
