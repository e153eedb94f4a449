"""Who a caller is: `Authenticated`, `Anonymous`, or a refusal (SPEC I3)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Authenticated:
    """A verified caller. `scopes` are as granted.

    `expires`, in seconds since the epoch and before any leeway, is the token's `exp`, or earlier where its key ends.
    """

    method: str
    issuer: str
    subject: str
    client: str | None
    scopes: frozenset[str]
    expires: float
    token_id: str | None = None
    asserted_by: str | None = None


@dataclass(frozen=True, slots=True)
class Anonymous:
    """No credential was sent, and the server needs none."""

    scopes: frozenset[str] = frozenset()


Identity = Authenticated | Anonymous
