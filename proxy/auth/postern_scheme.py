"""The scheme `postern`: `x-proxy-verified` signs the request and the identity headers (SPEC I7)."""

from collections.abc import Mapping

from proxy.auth.assertion import STREAM_S, UNSIGNED, Assertion, Presented
from proxy.auth.claims import is_text, parse_permissions
from proxy.auth.codes import AuthCode, Fault
from proxy.auth.credential import PERMISSIONS, USER_ID, VERIFIED
from proxy.auth.proxy_keys import SIGNATURE_BYTES, ProxyVerifyKey
from proxy.auth.signature import Mark, Signed, parse_mark

MAX_HEADER_BYTES = 8192
MALFORMED = Fault(AuthCode.IDENTITY_MALFORMED, "the identity headers are not in the form that is signed")
UNKNOWN_KEY = Fault(AuthCode.IDENTITY_KEY, "the signature names no live key of a trusted proxy")
STALE = Fault(AuthCode.IDENTITY_STALE, "the signature is outside its time window")
WRONG = Fault(AuthCode.IDENTITY_SIGNATURE, "the signature of the asserted identity does not hold")


class PosternScheme:
    """Verifies the signature of Postern's own signers."""

    marks = frozenset({VERIFIED})
    covers = frozenset({USER_ID, PERMISSIONS})

    def __init__(self, keys: Mapping[str, ProxyVerifyKey], audience: str) -> None:
        self._keys = dict(keys)
        self._audience = audience

    async def verify(self, request: Presented, now: float) -> Assertion | Fault:
        """Return what the signature proves."""
        value = request.value(VERIFIED) or b""
        if not value.startswith(b"v1;"):
            return UNSIGNED  # a bare claim such as `true` is no broken signature, but none
        mark, asserted = parse_mark(value), read_identity(request)
        if mark is None or isinstance(asserted, Fault):
            return MALFORMED
        key = self._keys.get(mark.kid)
        if key is None or not key.is_live(now):
            return UNKNOWN_KEY
        if abs(now - mark.timestamp) > key.window_s:
            return STALE
        if not self._is_signed(request, mark, key, asserted):
            return WRONG
        return make_assertion("proxy-signature", key, asserted, (mark.kid, mark.nonce), mark.timestamp)

    def _is_signed(self, request: Presented, mark: Mark, key: ProxyVerifyKey, asserted: "Asserted") -> bool:
        if len(mark.signature) != SIGNATURE_BYTES[key.algorithm]:
            return False
        signed = Signed(
            kid=mark.kid,
            algorithm=key.algorithm,
            timestamp=mark.timestamp,
            nonce=mark.nonce,
            method=request.method,
            target=request.target,
            audience=self._audience,
            user=asserted[0],
            permissions=asserted[1],
            body=request.body,
        )
        try:
            return key.verify(signed.canonical(), mark.signature)
        except ValueError:
            return False


Asserted = tuple[str, str, frozenset[str]]


def read_identity(request: Presented) -> Asserted | Fault:
    """Return user, permissions as sent, and permissions as scopes.

    Absent permissions are empty ones: some proxies leave an empty header out, and the signature covers the emptiness.
    """
    user, permissions = request.value(USER_ID), request.value(PERMISSIONS) or b""
    if user is None or len(user) + len(permissions) > MAX_HEADER_BYTES:
        return MALFORMED
    try:
        subject, sent = user.decode(), permissions.decode()
    except UnicodeDecodeError:
        return MALFORMED
    scopes = parse_permissions(sent)
    if not is_text(subject) or subject != subject.strip() or scopes is None:
        return MALFORMED
    return subject, sent, scopes


def make_assertion(
    method: str, key: ProxyVerifyKey, asserted: Asserted, nonce: tuple[str, str], timestamp: int
) -> Assertion:
    """Return the assertion of a signature that holds; its nonce must be known until no clock accepts it."""
    until = timestamp + key.window_s
    return Assertion(method, key.proxy, asserted[0], asserted[2], timestamp + STREAM_S, nonce, until)
