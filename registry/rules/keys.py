"""The keys that tokens and proxies are verified with."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime

from registry.models import Key, OAuth, Server
from registry.problems import quoted
from registry.rules.base import Context, Finding, at, placed, repeated
from registry.secrets import Secret
from registry.source import Pointer

HMAC_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}


def _blocks(context: Context) -> Iterator[tuple[Pointer, OAuth]]:
    for server in context.servers():
        yield at(server, "oauth"), server.oauth
    if context.fleet.proxy.admin:
        yield ("proxy", "admin"), context.fleet.proxy.admin


def _keys(context: Context) -> Iterator[tuple[Pointer, Key, OAuth]]:
    for pointer, oauth in _blocks(context):
        for index, key in enumerate(oauth.keys):
            yield (*pointer, "keys", index), key, oauth


def short(context: Context) -> Iterator[Finding]:
    for pointer, key, oauth in _keys(context):
        needed = min((HMAC_BYTES[name] for name in oauth.algorithms if name in HMAC_BYTES), default=0)
        yield from _too_short(context, (*pointer, "secret"), key.secret, needed)
    for name, proxy in context.fleet.trusted_proxies.items():
        for index, shared in enumerate(proxy.keys):
            if shared.secret is not None:
                pointer = ("trusted_proxies", name, "keys", index, "secret")
                yield from _too_short(context, pointer, shared.secret, HMAC_BYTES["HS256"])


def _too_short(context: Context, pointer: Pointer, reference: str, needed: int) -> Iterator[Finding]:
    secret = context.secret(reference)
    if isinstance(secret, Secret) and secret.size_bytes < needed:
        yield Finding(pointer, f"the key has {secret.size_bytes} bytes; {needed} or more are needed")


def shared_reference(context: Context) -> Iterator[Finding]:
    """Two servers with one key are one server to whoever steals it; the same reference shows it without a secret."""
    entries = [(key.secret, (*pointer, "secret")) for pointer, key, _ in _keys(context)]
    return _shared(context, entries)


def shared_value(context: Context) -> Iterator[Finding]:
    """The same key under two references; what `shared_reference` already names is left out."""
    entries: list[tuple[object, Pointer]] = []
    references: dict[Pointer, str] = {}
    for pointer, key, _ in _keys(context):
        secret = context.secret(key.secret)
        if isinstance(secret, Secret):
            entries.append((hashlib.sha256(secret.reveal()).digest(), (*pointer, "secret")))
            references[(*pointer, "secret")] = key.secret
    for finding in _shared(context, entries):
        if references[finding.pointer] != references[finding.related[0]]:
            yield finding


def _shared(context: Context, entries: "list[tuple[str, Pointer]] | list[tuple[object, Pointer]]") -> Iterator[Finding]:
    for later, first in repeated(entries):
        if later[:2] != first[:2]:
            yield Finding(later, f"{placed(context, first)} has the same key", related=(first,))


def duplicate_id(context: Context) -> Iterator[Finding]:
    for pointer, oauth in _blocks(context):
        entries = [(key.kid, (*pointer, "keys", index, "kid")) for index, key in enumerate(oauth.keys)]
        for later, first in repeated(entries):
            kid = oauth.keys[int(later[-2])].kid
            yield Finding(later, f"{quoted(kid)} is already the id of another key of this server", related=(first,))


def unreadable_date(context: Context) -> Iterator[Finding]:
    for pointer, text in _dates(context):
        if text is not None and read_date(text) is None:
            yield Finding((*pointer, "not_after"), f"{quoted(text)} is not a date and time with a zone")


def _dates(context: Context) -> Iterator[tuple[Pointer, str | None]]:
    for pointer, key, _ in _keys(context):
        yield pointer, key.not_after
    for name, proxy in context.fleet.trusted_proxies.items():
        for index, shared in enumerate(proxy.keys):
            yield ("trusted_proxies", name, "keys", index), shared.not_after


def expired(context: Context) -> Iterator[Finding]:
    for pointer, oauth in _blocks(context):
        ends = [read_date(key.not_after) if key.not_after else None for key in oauth.keys]
        if ends and oauth.jwks is None and all(end is not None and end <= context.now for end in ends):
            yield Finding((*pointer, "keys"), "every key has expired: no token can be verified")


def read_date(text: str) -> datetime | None:
    """Return an RFC 3339 time in UTC, or None."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


def missing(context: Context) -> Iterator[Finding]:
    for server in context.servers():
        oauth = server.oauth
        if oauth.required and not oauth.keys and oauth.jwks is None and not speakers_for(context, server):
            yield Finding(at(server, "oauth"), "a token is required, and there is no key to verify one", key=True)
    admin = context.fleet.proxy.admin
    if admin and not admin.keys and admin.jwks is None:
        yield Finding(("proxy", "admin"), "a token is required, and there is no key to verify one", "add `keys:`", True)


def speakers_for(context: Context, server: Server) -> tuple[str, ...]:
    """Return the trusted proxies that may assert identities for a server."""
    proxies = context.fleet.trusted_proxies.items()
    return tuple(name for name, proxy in proxies if server.name in proxy.servers or "*" in proxy.servers)


def algorithm_without_key(context: Context) -> Iterator[Finding]:
    for pointer, oauth in _blocks(context):
        symmetric = [name for name in oauth.algorithms if name in HMAC_BYTES]
        asymmetric = [name for name in oauth.algorithms if name not in HMAC_BYTES]
        if oauth.keys and not symmetric:
            yield Finding((*pointer, "algorithms"), "`keys` are shared secrets, and no HS algorithm is allowed")
        if oauth.jwks and not asymmetric:
            yield Finding((*pointer, "algorithms"), "`jwks` publishes public keys, and only HS algorithms are allowed")
