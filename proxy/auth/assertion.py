"""Identities that a trusted upstream proxy asserts (SPEC I7): which scheme proves them, and the rules that all obey.

identity headers ─▶ one scheme ─▶ signature ─▶ server allowed? ─▶ within the ceiling? ─▶ first use? ─▶ Authenticated
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from proxy.auth.codes import AuthCode, Fault
from proxy.auth.credential import IDENTITY_HEADERS, Header, spellings
from proxy.auth.identity import Authenticated
from proxy.auth.nonces import NonceStore, NonceStoreUnavailableError

# How long a stream may stay open on one assertion; requests prove themselves anew every time.
STREAM_S = 3600.0
EVERY_SERVER = "*"
UNSIGNED = Fault(AuthCode.IDENTITY_UNSIGNED, "identity headers are believed from a trusted proxy only, and signed")
_DUPLICATE = Fault(AuthCode.IDENTITY_DUPLICATE, "an identity header is repeated or spelled in another way")
_CONFLICT = Fault(AuthCode.CONFLICT, "the request carries more than one proof of identity")


@dataclass(frozen=True, slots=True)
class Presented:
    """A request as a signature covers it: `path` decoded and `query` raw, as they arrived; `body` before parsing."""

    method: str
    path: str
    query: bytes
    headers: Sequence[Header]
    body: bytes

    @property
    def target(self) -> str:
        """Path and query as they stand in the request line."""
        return f"{self.path}?{self.query.decode('latin-1')}" if self.query else self.path

    def value(self, name: bytes) -> bytes | None:
        """Return the first header of that name."""
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True, slots=True)
class Assertion:
    """What a signature proves: that `proxy` vouches for somebody. `nonce` is None where a scheme has none."""

    method: str
    proxy: str
    subject: str
    permissions: frozenset[str]
    expires: float
    nonce: tuple[str, str] | None = None
    nonce_until: float = 0.0


class Scheme(Protocol):
    """One way to sign. `marks` are the headers that only it uses, `covers` those that it vouches for besides."""

    marks: frozenset[bytes]
    covers: frozenset[bytes]

    async def verify(self, request: Presented, now: float) -> Assertion | Fault: ...


@dataclass(frozen=True, slots=True)
class Trust:
    """What one proxy may assert: for which servers, and everything that its ceiling implies."""

    servers: frozenset[str]
    ceiling: frozenset[str]


class Assertions:
    """Judges asserted identities for one server."""

    def __init__(
        self, server: str, schemes: Iterable[Scheme], trusted: Mapping[str, Trust], nonces: NonceStore
    ) -> None:
        self._server = server
        self._schemes = tuple(schemes)
        self._trusted = dict(trusted)
        self._nonces = nonces
        self.headers = IDENTITY_HEADERS | spellings(name for s in self._schemes for name in s.marks | s.covers)

    def is_marked(self, headers: Sequence[Header]) -> bool:
        """Whether headers claim to be signed, by whatever scheme."""
        return any(name in scheme.marks for name, _ in headers for scheme in self._schemes)

    async def identify(self, request: Presented, now: float) -> Authenticated | Fault:
        """Return whom a trusted proxy vouches for."""
        scheme = self._choose(request)
        found = await scheme.verify(request, now) if not isinstance(scheme, Fault) else scheme
        if isinstance(found, Fault):
            return found
        fault = self._check_trust(found) or await self._claim(found)
        return fault or Authenticated(
            method=found.method,
            issuer=f"trusted-proxy:{found.proxy}",
            subject=found.subject,
            client=None,
            scopes=found.permissions,
            expires=found.expires,
            token_id=found.nonce[1] if found.nonce else None,
            asserted_by=found.proxy,
        )

    def _choose(self, request: Presented) -> Scheme | Fault:
        """Return the one scheme whose marks are there, if every identity header is one that it vouches for."""
        names = [name for name, _ in request.headers if name in self.headers]
        marked = [scheme for scheme in self._schemes if not scheme.marks.isdisjoint(names)]
        if len(marked) > 1:
            return _CONFLICT
        known = marked[0].marks | marked[0].covers if marked else frozenset[bytes]()
        if not spellings(known).issuperset(names):
            return UNSIGNED
        if len(set(names)) != len(names) or not known.issuperset(names):
            return _DUPLICATE
        return marked[0]

    def _check_trust(self, found: Assertion) -> Fault | None:
        trust = self._trusted[found.proxy]
        if not {self._server, EVERY_SERVER} & trust.servers:
            return Fault(AuthCode.IDENTITY_SERVER, f"{found.proxy} may not speak for this server")
        if not found.permissions <= trust.ceiling:
            return Fault(AuthCode.IDENTITY_CEILING, f"{found.proxy} asserts more permissions than it may")
        return None

    async def _claim(self, found: Assertion) -> Fault | None:
        """Use a nonce up. The last check, so that only requests that would pass take room in the store."""
        if found.nonce is None:
            return None
        try:
            is_first = await self._nonces.claim(*found.nonce, found.nonce_until)
        except NonceStoreUnavailableError:
            return Fault(AuthCode.IDENTITY_STORE, "it cannot be told now whether the signature is used a second time")
        return None if is_first else Fault(AuthCode.IDENTITY_REPLAYED, "the signature was used before")
