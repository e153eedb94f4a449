"""Keys as the registry declares them, read into keys that verify."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Protocol

from proxy.auth.tokens import VerifyKey, hmac_key
from registry.models import Key


class Secrets(Protocol):
    """Gives the value behind a reference."""

    def reveal(self, reference: str) -> str: ...


def read_hmac_keys(keys: Iterable[Key], secrets: Secrets) -> tuple[VerifyKey, ...]:
    """Return a server's shared secrets as keys. Raises `ValueError` for one that is too short."""
    return tuple(hmac_key(k.kid, secrets.reveal(k.secret).encode(), parse_not_after(k.not_after)) for k in keys)


def parse_not_after(text: str | None) -> float | None:
    """Return seconds since the epoch of an RFC 3339 time; without a zone it is UTC."""
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
