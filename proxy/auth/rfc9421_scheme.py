"""The scheme `rfc9421`: HTTP Message Signatures over the request and the identity headers (SPEC I7)."""

from collections.abc import Mapping
from hmac import compare_digest

from proxy.auth.assertion import Assertion, Presented
from proxy.auth.codes import Fault
from proxy.auth.credential import PERMISSIONS, USER_ID
from proxy.auth.http_signature import SignatureInput, content_digest, parse_signature, signature_base
from proxy.auth.postern_scheme import MALFORMED, STALE, UNKNOWN_KEY, WRONG, Asserted, make_assertion, read_identity
from proxy.auth.proxy_keys import SIGNATURE_BYTES, ProxyVerifyKey

SIGNATURE, INPUT, DIGEST = b"signature", b"signature-input", b"content-digest"


class Rfc9421Scheme:
    """Verifies message signatures of the profile in `http_signature`."""

    marks = frozenset({SIGNATURE, INPUT})
    covers = frozenset({USER_ID, PERMISSIONS})

    def __init__(self, keys: Mapping[str, ProxyVerifyKey], audience: str) -> None:
        self._keys = dict(keys)
        self._audience = audience

    async def verify(self, request: Presented, now: float) -> Assertion | Fault:
        """Return what the signature proves."""
        asserted = read_identity(request)
        said = parse_signature(request.value(INPUT) or b"", request.value(SIGNATURE) or b"")
        if isinstance(asserted, Fault) or said is None:
            return MALFORMED
        key = self._keys.get(said.keyid)
        if key is None or key.algorithm != said.algorithm or not key.is_live(now):
            return UNKNOWN_KEY
        if abs(now - said.created) > key.window_s:
            return STALE
        if not self._is_signed(request, said, key, asserted):
            return WRONG
        return make_assertion("proxy-rfc9421", key, asserted, (said.keyid, said.nonce), said.created)

    def _is_signed(self, request: Presented, said: SignatureInput, key: ProxyVerifyKey, asserted: Asserted) -> bool:
        digest = content_digest(request.body)
        sent = [value for name, value in request.headers if name == DIGEST]
        if len(sent) != 1 or not compare_digest(sent[0], digest.encode()) or said.tag != self._audience:
            return False
        values = request_values(request.method, request.path, request.query.decode("latin-1"), digest, asserted[:2])
        try:
            base = signature_base(said.components, values, said.inner)
        except ValueError:
            return False
        return len(said.signature) == SIGNATURE_BYTES[key.algorithm] and key.verify(base, said.signature)


def request_values(method: str, path: str, query: str, digest: str, identity: tuple[str, str]) -> dict[str, str]:
    """Return the value of each component (RFC 9421 §2.2); an absent query is `?`."""
    return {
        "@method": method,
        "@path": path,
        "@query": f"?{query}",
        "content-digest": digest,
        "x-user-id": identity[0],
        "x-user-permissions": identity[1],
    }
