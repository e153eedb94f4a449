"""Fleets, keys and tokens for the tests of identity and authorization."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

import jwt

from proxy.auth.bearer import ServerAuth
from proxy.auth.nonces import NonceStoreUnavailableError
from registry.models import Fleet

NOW = 1_800_000_000.0
URL = "https://gw.example"
ISSUER = "https://as.example"
NOTES_SECRET = "notes-secret-notes-secret-notes-00"
CLOCK_SECRET = "clock-secret-clock-secret-clock-00"
AUDIENCE = f"{URL}/notes/mcp"


class Literal:
    """Secrets that are their own references."""

    def reveal(self, reference: str) -> str:
        return reference


def fleet(**sections: Any) -> Fleet:
    notes: dict[str, Any] = {
        "name": "notes",
        "display_name": "Notes",
        "oauth": {
            "issuer": ISSUER,
            "keys": [{"kid": "n1", "secret": NOTES_SECRET}],
            "scopes": ["notes:use"],
            "authorization_servers": [ISSUER],
        },
        "tools": {
            "read": {"scopes": ["notes:read"]},
            "write": {"scopes": ["notes:read", "notes:write"]},
            "either": {"any_of": [["notes:admin"], ["clock:read", "notes:read"]]},
            "open": {},
        },
        "prompts": {"summary": {"scopes": ["notes:read"]}},
        "resources": {
            "notes://public/*": {},
            "notes://public/secret/*": {"scopes": ["notes:admin"]},
            "notes://one": {"scopes": ["notes:read"]},
        },
    }
    clock: dict[str, Any] = {
        "name": "clock",
        "oauth": {"issuer": ISSUER, "keys": [{"kid": "c1", "secret": CLOCK_SECRET}], "scopes": ["clock:read"]},
        "tools": {"*": {}},
    }
    data: dict[str, Any] = {
        "version": 1,
        "proxy": {"public_url": URL},
        "permissions": {
            "ladder": ["admin", "user"],
            "implies": {"notes:admin": ["notes:write"], "notes:write": ["notes:read"], "admin": ["notes:admin"]},
        },
        "servers": {"notes": notes, "clock": clock},
    }
    for name, section in sections.items():
        data[name] = {**data[name], **section} if isinstance(data.get(name), dict) else section
    return Fleet.model_validate(data)


def with_notes(**changes: Any) -> Fleet:
    """The fleet with another OAuth section of the server `notes`."""
    base = fleet()
    notes = base.servers["notes"]
    oauth = notes.oauth.model_validate({**notes.oauth.model_dump(), **changes})
    server = notes.model_copy(update={"oauth": oauth})
    return base.model_copy(update={"servers": {**base.servers, "notes": server}})


def auth(found: Fleet | None = None, server: str = "notes", nonces: "UsedNonces | None" = None) -> ServerAuth:
    chosen = found or fleet()
    return ServerAuth.build(chosen, chosen.servers[server], Literal(), nonces)


def claims(**changes: Any) -> dict[str, Any]:
    """Claims that the server `notes` accepts; a change to None takes a claim away."""
    usual: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "client_id": "agent-1",
        "scope": "notes:use notes:read",
        "iat": NOW - 10,
        "exp": NOW + 600,
        "jti": "t-1",
    }
    return {name: value for name, value in {**usual, **changes}.items() if value is not None}


def token(
    key: Any = NOTES_SECRET, algorithm: str = "HS256", headers: Mapping[str, Any] | None = None, **changes: Any
) -> str:
    fields = {name: value for name, value in {"kid": "n1", **(headers or {})}.items() if value is not None}
    return jwt.PyJWS().encode(json.dumps(claims(**changes)).encode(), key, algorithm, headers=fields)


def raw_token(header: Any, payload: Any, signature: bytes = b"x") -> str:
    """A token of any shape, with a signature that means nothing."""
    parts = [json.dumps(part).encode() if not isinstance(part, bytes) else part for part in (header, payload)]
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in [*parts, signature])


def bearer(text: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"gw.example"), (b"authorization", b"Bearer " + text.encode())]


class UsedNonces:
    """A store of used nonces in memory; `away` makes it unavailable."""

    def __init__(self) -> None:
        self.used: dict[tuple[str, str], float] = {}
        self.away = False

    async def claim(self, kid: str, nonce: str, until: float) -> bool:
        if self.away:
            raise NonceStoreUnavailableError
        if (kid, nonce) in self.used:
            return False
        self.used[kid, nonce] = until
        return True


PROXY_SECRET = "proxy-secret-proxy-secret-proxy-00"


def trusting(*, key: dict[str, Any] | None = None, **changes: Any) -> Fleet:
    """The fleet with one trusted proxy, `sso`."""
    proxy = {
        "keys": [key or {"kid": "sso-1", "algorithm": "hmac-sha256", "secret": PROXY_SECRET}],
        "servers": ["notes"],
        "permissions": ["notes:write", "notes:use"],
        **changes,
    }
    return fleet(trusted_proxies={"sso": proxy})
