"""The development issuer: tokens that one server takes, signed with that server's own first key. Pure."""

import re
from dataclasses import dataclass

import msgspec

from proxy.auth.claims import is_scope, is_text
from proxy.auth.keys import Secrets, parse_not_after
from proxy.auth.metadata import issuer_of
from proxy.auth.tokens import sign_hs256
from registry.models import Fleet, Key, Server

MAX_TTL_S = 86_400
_TTL = re.compile(r"([0-9]{1,6})([smh]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


class CannotIssueError(ValueError):
    """No token can be issued; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token is to say."""

    subject: str
    client: str | None
    scopes: tuple[str, ...]
    ttl_s: int
    token_id: str


def issue(fleet: Fleet, server: Server, grant: Grant, secrets: Secrets, *, now: float, kid: str | None = None) -> str:
    """Return a token for `server`, valid from `now`. Raises `CannotIssueError`, always in cloud mode."""
    if fleet.fleet.mode != "dev":
        raise CannotIssueError("this fleet runs in cloud mode: tokens come from its authorization server")
    if "HS256" not in server.oauth.algorithms:
        raise CannotIssueError(f"server {server.name} takes no HS256 tokens: its tokens come from its issuer")
    _check(grant)
    key = choose_key(server, now, kid)
    claims = {
        "iss": issuer_of(fleet, server),
        "aud": fleet.audience(server),
        "sub": grant.subject,
        **({"client_id": grant.client} if grant.client else {}),
        "scope": " ".join(grant.scopes),
        "iat": int(now),
        "exp": int(now) + grant.ttl_s,
        "jti": grant.token_id,
    }
    return sign_hs256(msgspec.json.encode(claims), secrets.reveal(key.secret).encode(), key.kid).decode("ascii")


def _check(grant: Grant) -> None:
    if not is_text(grant.subject) or not (grant.client is None or is_text(grant.client)):
        raise CannotIssueError("subject and client must be short, printable text")
    if wrong := [scope for scope in grant.scopes if not is_scope(scope)]:
        raise CannotIssueError(f"{wrong[0]!r} is not a scope")


def choose_key(server: Server, now: float, kid: str | None) -> Key:
    """Return the first key that is still good, or the one of that `kid`."""
    for key in server.oauth.keys:
        ends = parse_not_after(key.not_after)
        if (kid is None or key.kid == kid) and (ends is None or now < ends):
            return key
    named = f" named {kid}" if kid else ""
    raise CannotIssueError(f"server {server.name} has no live key{named} (servers.{server.name}.oauth.keys)")


def parse_ttl(text: str) -> int:
    """Return seconds of `90`, `90s`, `15m` or `2h`, at most a day. Raises `CannotIssueError`."""
    found = _TTL.fullmatch(text)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < seconds <= MAX_TTL_S:
        raise CannotIssueError(f"{text!r} is not a time to live: write 90s, 15m or 2h, at most 24h")
    return seconds
