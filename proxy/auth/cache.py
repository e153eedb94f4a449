"""Tokens that were verified a moment ago: found by digest, never kept themselves."""

from hashlib import sha256

from proxy.auth.identity import Authenticated

CAPACITY = 4096


class VerifiedTokens:
    """A bounded memory of one server. Only verified tokens enter, so strangers cannot fill it."""

    __slots__ = ("_capacity", "_known")

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._known: dict[bytes, tuple[Authenticated, float]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def get(self, authorization: bytes, now: float) -> Authenticated | None:
        """Return whom this header value proved, unless its time is over."""
        found = self._known.get(sha256(authorization).digest())
        if found is None or now >= found[1]:
            return None
        return found[0]

    def put(self, authorization: bytes, identity: Authenticated, deadline: float) -> None:
        """Remember whom the header value proved, until `deadline` (seconds since the epoch)."""
        known = self._known
        key = sha256(authorization).digest()
        known.pop(key, None)
        if len(known) >= self._capacity:
            del known[next(iter(known))]
        known[key] = (identity, deadline)

    def clear(self) -> None:
        """Forget everything, because keys have changed."""
        self._known.clear()
