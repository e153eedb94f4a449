"""Tokens that were verified a moment ago: found by digest, never kept themselves."""

from hashlib import sha256

from msgspec import Struct

from proxy.auth.identity import Authenticated

CAPACITY = 4096


class Verified(Struct):
    """Whom a token proved, as long as it is earlier than `until` (seconds since the epoch)."""

    identity: Authenticated
    until: float


class VerifiedTokens:
    """A bounded memory of one server. Only verified tokens enter, so strangers cannot fill it."""

    __slots__ = ("_capacity", "_known")

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._known: dict[bytes, Verified] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, authorization: bytes, now: float) -> Verified | None:
        """Return what this header value proved, unless its time is over. What is found is not to be changed."""
        found = self._known.get(sha256(authorization).digest())
        return found if found is not None and now < found.until else None

    def get(self, authorization: bytes, now: float) -> Authenticated | None:
        """Return whom this header value proved, unless its time is over."""
        found = self.find(authorization, now)
        return found.identity if found is not None else None

    def put(self, authorization: bytes, identity: Authenticated, deadline: float) -> None:
        """Remember whom the header value proved, until `deadline` (seconds since the epoch)."""
        known = self._known
        key = sha256(authorization).digest()
        gone = known.pop(key, None)
        if gone is None and len(known) >= self._capacity:
            gone = known.pop(next(iter(known)))
        if gone is not None:
            gone.until = 0.0  # somebody may hold it still, and `clear` could not reach it any more
        known[key] = Verified(identity, deadline)

    def clear(self) -> None:
        """Forget everything, because keys have changed; nothing that was found here proves anything any more."""
        for each in self._known.values():
            each.until = 0.0
        self._known.clear()
