"""The inside of a token: who, from whom, for whom, until when (RFC 7519, RFC 9068, RFC 8707). Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

from proxy.auth.codes import AuthCode, Fault
from proxy.auth.identity import Authenticated
from registry.addresses import canonical_audience

MAX_TEXT = 512
MAX_SCOPES = 256
LATEST_TIME = 253_402_300_800  # the year 10000: whatever lies behind it is no time
_SCOPE_CHARACTERS = frozenset(chr(c) for c in (0x21, *range(0x23, 0x5C), *range(0x5D, 0x7F)))


@dataclass(frozen=True, slots=True)
class Expectations:
    """What one server demands of a token. `others` are the audiences of the fleet's other servers."""

    issuer: str
    audience: str
    others: frozenset[str] = frozenset()
    leeway_s: float = 0.0


def check_claims(claims: Mapping[str, Any], expected: Expectations, now: float) -> Authenticated | Fault:
    """Return the identity that verified claims prove to this server at `now`."""
    fault = (
        _check_times(claims, expected.leeway_s, now)
        or _check_issuer(claims, expected)
        or _check_audience(claims, expected)
    )
    return fault or _read_identity(claims, expected.issuer)


def _check_times(claims: Mapping[str, Any], leeway_s: float, now: float) -> Fault | None:
    expires, begins, issued = (claims.get(name) for name in ("exp", "nbf", "iat"))
    if not _is_time(expires):
        return Fault(AuthCode.CLAIMS, "the token has no usable exp claim")
    if not all(value is None or _is_time(value) for value in (begins, issued)):
        return Fault(AuthCode.CLAIMS, "the token's nbf or iat claim is not a time")
    if now >= expires + leeway_s:
        return Fault(AuthCode.EXPIRED, "the token has expired")
    if any(value is not None and value > now + leeway_s for value in (begins, issued)):
        return Fault(AuthCode.NOT_YET_VALID, "the token is not valid yet")
    if issued is not None and issued > expires:
        return Fault(AuthCode.CLAIMS, "the token was issued after its own end")
    return None


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < LATEST_TIME


def _check_issuer(claims: Mapping[str, Any], expected: Expectations) -> Fault | None:
    if claims.get("iss") == expected.issuer:
        return None
    return Fault(AuthCode.ISSUER, "the token comes from another issuer than the server trusts")


def _check_audience(claims: Mapping[str, Any], expected: Expectations) -> Fault | None:
    named: object = claims.get("aud")
    found = {canonical_audience(item) for item in (_items(named) or [named]) if isinstance(item, str)}
    if expected.audience not in found:
        return Fault(AuthCode.AUDIENCE, f"the token is not meant for {expected.audience}")
    if not found.isdisjoint(expected.others):
        # With one of these a thief of one server's traffic could open the next server.
        return Fault(AuthCode.AUDIENCE, "the token is meant for several servers of this fleet")
    return None


def _read_identity(claims: Mapping[str, Any], issuer: str) -> Authenticated | Fault:
    subject, token_id = claims.get("sub"), claims.get("jti")
    client = claims.get("client_id", claims.get("azp"))
    scopes = read_scopes(claims)
    if not is_text(subject) or not (client is None or is_text(client)) or not (token_id is None or is_text(token_id)):
        return Fault(AuthCode.CLAIMS, "the token's sub, client_id or jti claim is missing or not usable")
    if scopes is None:
        return Fault(AuthCode.CLAIMS, "the token's scopes are not usable")
    return Authenticated("bearer", issuer, subject, client, scopes, float(claims["exp"]), token_id)


def is_text(value: object) -> TypeGuard[str]:
    """Whether a value can name somebody in a row: short, printable (no NUL, no lone surrogate), not blank."""
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT and value.isprintable() and not value.isspace()


def read_scopes(claims: Mapping[str, Any]) -> frozenset[str] | None:
    """Return the granted scopes (`scope`, `scp` or `scopes`; text or list); None if they cannot be read."""
    named = next((claims[name] for name in ("scope", "scp", "scopes") if claims.get(name) is not None), "")
    return parse_scopes(named)


def parse_scopes(named: object) -> frozenset[str] | None:
    """Return scope tokens (RFC 6749 §3.3) from text or a list; None if one of them is none."""
    items = [item for item in named.split(" ") if item] if isinstance(named, str) else _items(named)
    if items is None or len(items) > MAX_SCOPES:
        return None
    scopes = frozenset(item for item in items if is_scope(item))
    return scopes if all(is_scope(item) for item in items) else None


def is_scope(value: object) -> TypeGuard[str]:
    """Whether a value is a scope token (RFC 6749 §3.3)."""
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT and _SCOPE_CHARACTERS.issuperset(value)


def _items(value: object) -> Sequence[object] | None:
    return cast("list[object]", value) if isinstance(value, list) else None


def parse_permissions(text: str) -> frozenset[str] | None:
    """Return permissions that a proxy asserts, separated by spaces or commas; None if one is no scope token."""
    return parse_scopes(text.replace(",", " "))
