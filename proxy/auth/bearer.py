"""The door of one server: who a request comes from, or why nobody is recognised (SPEC I1 to I3, I7).

headers ─▶ Authorization ─▶ verified a moment ago? ─▶ Authenticated
        │                └▶ token ─▶ key ─▶ signature ─▶ claims ─▶ Authenticated | Refusal
        └▶ identity headers ─▶ assertion                         ─▶ Authenticated | Refusal
"""

from collections.abc import Sequence
from dataclasses import replace

from proxy.auth.assertion import UNSIGNED, Assertions, Presented
from proxy.auth.cache import Verified, VerifiedTokens
from proxy.auth.challenges import Challenges
from proxy.auth.claims import Expectations, canonical_audience, check_claims
from proxy.auth.codes import AuthCode, Fault
from proxy.auth.credential import Header, find_credentials, missing, query_has_token, read_bearer
from proxy.auth.identity import Anonymous, Authenticated, Identity
from proxy.auth.jwks import KeySource, KeysUnavailableError
from proxy.auth.keys import Secrets, read_hmac_keys
from proxy.auth.metadata import issuer_of, url_of
from proxy.auth.nonces import NonceStore, NoNonces
from proxy.auth.tokens import HMAC_BYTES, Token, VerifyKey, decode_payload, is_signed_by, parse_token
from proxy.auth.trusted import build_assertions
from proxy.errors import Refusal
from proxy.shared import Shared
from registry.models import Fleet, OAuth, Server

__all__ = ["Presented", "ServerAuth", "query_has_token"]

_ANONYMOUS = Anonymous()
_CONFLICT = Fault(AuthCode.CONFLICT, "the request carries both a token and an asserted identity")


class ServerAuth:
    """Recognises the callers of one server. A reload builds a new one, so nothing verified under old rules survives."""

    def __init__(
        self,
        oauth: OAuth,
        expected: Expectations,
        keys: Sequence[VerifyKey],
        assertions: Assertions,
        challenges: Challenges,
    ) -> None:
        self._required = oauth.required
        self._algorithms = frozenset[str](oauth.algorithms)
        self._expected = expected
        self._keys = tuple(keys)
        self._verified = VerifiedTokens()
        self._jwks = KeySource(oauth.jwks, self._verified.clear) if oauth.jwks else None
        self._assertions = assertions
        self.challenges = challenges
        self.cached = self._verified.get

    @classmethod
    def build(
        cls,
        fleet: Fleet,
        server: Server,
        secrets: Secrets,
        nonces: NonceStore | None = None,
        shared: Shared | None = None,
    ) -> "ServerAuth":
        """Compile one server's rules and keys. Raises `ValueError` for a key that cannot be one.

        Without `nonces` no signature can be proven to be used for the first time, so none is accepted. `shared` is the
        fleet's: found out once, it serves every server.
        """
        shared = shared or Shared.of(fleet)
        own = canonical_audience(fleet.audience(server))
        expected = Expectations(issuer_of(fleet, server), own, shared.audiences - {own}, server.oauth.leeway_s)
        keys = read_hmac_keys(server.oauth.keys, secrets)
        assertions = build_assertions(fleet, server, secrets, nonces or NoNonces(), shared.ceilings)
        return cls(server.oauth, expected, keys, assertions, Challenges(url_of(fleet, server), server.oauth.scopes))

    async def authenticate(
        self, headers: Sequence[Header], now: float, presented: Presented | None = None
    ) -> Identity | Refusal:
        """Return who sent these headers (names in lower case) at `now` (seconds since the epoch).

        `presented` is the whole request, for identities that a proxy asserts: their signature covers it.
        """
        authorization, asserted = find_credentials(headers, self._assertions.headers)
        if asserted:
            proven = await self._identify(headers, authorization, presented, now)
            return self.challenges.refusal(proven) if isinstance(proven, Fault) else proven
        if authorization is None:
            return self.challenges.refusal(missing()) if self._required else _ANONYMOUS
        if isinstance(authorization, Fault):
            return self.challenges.refusal(authorization)
        found = self.cached(authorization, now) or await self._verify(authorization, now)
        return self.challenges.refusal(found) if isinstance(found, Fault) else found

    def verified(self, headers: Sequence[Header], now: float) -> Verified | None:
        """Return what the token of these headers has proved before, if it is the only proof in them."""
        authorization, asserted = find_credentials(headers, self._assertions.headers)
        return self._verified.find(authorization, now) if isinstance(authorization, bytes) and not asserted else None

    async def _identify(
        self, headers: Sequence[Header], authorization: object, presented: Presented | None, now: float
    ) -> Authenticated | Fault:
        if authorization is not None:
            return _CONFLICT if self._assertions.is_marked(headers) else UNSIGNED
        return UNSIGNED if presented is None else await self._assertions.identify(presented, now)

    async def _verify(self, authorization: bytes, now: float) -> Authenticated | Fault:
        raw = read_bearer(authorization)
        token = parse_token(raw) if isinstance(raw, bytes) else raw
        if isinstance(token, Fault):
            return token
        key = await self._find_key(token, now)
        if isinstance(key, Fault):
            return key
        claims = decode_payload(token)
        found = check_claims(claims, self._expected, now) if isinstance(claims, dict) else claims
        if isinstance(found, Authenticated):
            if key.not_after is not None:  # nobody is known for longer than the key, nor keeps a stream
                found = replace(found, expires=min(found.expires, key.not_after - self._expected.leeway_s))
            self._verified.put(authorization, found, self._deadline(found, key, now))
        return found

    async def _find_key(self, token: Token, now: float) -> VerifyKey | Fault:
        """Return the key that signed the token."""
        if token.algorithm not in self._algorithms:
            return Fault(AuthCode.ALGORITHM, "the token's algorithm is not one that this server accepts")
        try:
            keys = await self._candidates(token, now)
        except KeysUnavailableError:
            return Fault(AuthCode.KEYS_UNAVAILABLE, "the issuer's keys cannot be had now")
        if not keys:
            return Fault(AuthCode.KEY, "the token names no key of this server")
        signer = next((key for key in keys if is_signed_by(token, key)), None)
        return signer or Fault(AuthCode.SIGNATURE, "the token's signature does not hold")

    async def _candidates(self, token: Token, now: float) -> Sequence[VerifyKey]:
        if token.algorithm in HMAC_BYTES:
            named = [key for key in self._keys if token.kid is None or key.kid == token.kid]
            return [key for key in named if key.is_live(now)]
        return await self._jwks.find(token.kid, token.algorithm) if self._jwks else ()

    def _deadline(self, found: Authenticated, key: VerifyKey, now: float) -> float:
        ends = found.expires + self._expected.leeway_s
        if self._jwks is not None and key.algorithms.isdisjoint(HMAC_BYTES):
            ends = min(ends, now + self._jwks.fresh_for_s())
        return ends

    async def aclose(self) -> None:
        """Let go of what is under way."""
        if self._jwks is not None:
            await self._jwks.aclose()
