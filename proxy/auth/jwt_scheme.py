"""The scheme `jwt`: a signed-JWT assertion header, as common SSO proxies send it (SPEC I7).

Such a token is made once per login and not per request: it binds neither body nor path, and is good until it expires.
"""

from collections.abc import Sequence

from proxy.auth.assertion import Assertion, Presented
from proxy.auth.cache import VerifiedTokens
from proxy.auth.claims import Expectations, canonical_audience, check_claims, parse_permissions, parse_scopes
from proxy.auth.codes import AuthCode, Fault
from proxy.auth.identity import Authenticated
from proxy.auth.jwks import KeySource, KeysUnavailableError
from proxy.auth.tokens import HMAC_BYTES, Token, VerifyKey, decode_payload, is_signed_by, parse_token
from registry.models import Assertion as Declared

LEEWAY_S = 30.0
_METHOD = "proxy-jwt"


class JwtScheme:
    """Verifies the assertion header of one proxy."""

    covers: frozenset[bytes] = frozenset()

    def __init__(self, proxy: str, declared: Declared, keys: KeySource | None = None) -> None:
        self._proxy = proxy
        self._header = declared.header.lower().encode("latin-1")
        self.marks = frozenset({self._header})
        self._algorithms = frozenset(declared.algorithms) - HMAC_BYTES.keys()
        self._claim = declared.permissions_claim
        audience = canonical_audience(declared.audience)
        self._expected = Expectations(declared.issuer, audience, leeway_s=LEEWAY_S)
        self._verified = VerifiedTokens()
        self._keys = keys or KeySource(declared.jwks, self._verified.clear)

    async def verify(self, request: Presented, now: float) -> Assertion | Fault:
        """Return what the token proves."""
        raw = request.value(self._header) or b""
        known = self._verified.get(raw, now)
        found = known or await self._verify(raw, now)
        if isinstance(found, Fault):
            return found
        return Assertion(_METHOD, self._proxy, found.subject, found.scopes, found.expires)

    async def _verify(self, raw: bytes, now: float) -> Authenticated | Fault:
        token = parse_token(raw)
        if isinstance(token, Fault):
            return Fault(AuthCode.IDENTITY_MALFORMED, "the asserted token is not a signed JWT")
        keys = await self._candidates(token)
        if isinstance(keys, Fault):
            return keys
        if not any(is_signed_by(token, key) for key in keys):
            return Fault(AuthCode.IDENTITY_SIGNATURE, "the asserted token's signature does not hold")
        claims = decode_payload(token)
        if isinstance(claims, Fault):
            return Fault(AuthCode.IDENTITY_MALFORMED, claims.reason)
        found = check_claims(self._translate(claims), self._expected, now)
        if isinstance(found, Authenticated):
            ends = min(found.expires + LEEWAY_S, now + self._keys.fresh_for_s())
            self._verified.put(raw, found, ends)
            return found
        return _as_asserted(found)

    async def _candidates(self, token: Token) -> Sequence[VerifyKey] | Fault:
        if token.algorithm not in self._algorithms:
            return Fault(AuthCode.IDENTITY_KEY, "the asserted token's algorithm is not accepted")
        try:
            keys = await self._keys.find(token.kid, token.algorithm)
        except KeysUnavailableError:
            return Fault(AuthCode.KEYS_UNAVAILABLE, "the proxy's keys cannot be had now")
        return keys or Fault(AuthCode.IDENTITY_KEY, "the asserted token names no key of its proxy")

    def _translate(self, claims: dict[str, object]) -> dict[str, object]:
        """Permissions come from the declared claim only; a `scope` claim of the proxy means something else."""
        named = claims.get(self._claim, "")
        scopes = parse_permissions(named) if isinstance(named, str) else parse_scopes(named)
        kept = {name: value for name, value in claims.items() if name not in {"scope", "scp", "scopes"}}
        return {**kept, "scopes": None if scopes == frozenset() else [None] if scopes is None else sorted(scopes)}


def _as_asserted(fault: Fault) -> Fault:
    """Name a token's fault as one of an asserted identity."""
    stale = {AuthCode.EXPIRED, AuthCode.NOT_YET_VALID}
    code = AuthCode.IDENTITY_STALE if fault.code in stale else AuthCode.IDENTITY_MALFORMED
    return Fault(code, f"asserted identity: {fault.reason}")
