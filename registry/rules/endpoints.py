"""Addresses outside: well-formed, encrypted, and not inside somebody's network."""

from collections.abc import Iterator

from registry.addresses import Address, read_url
from registry.rules.base import Context, Finding, at
from registry.source import Pointer


def _urls(context: Context) -> Iterator[tuple[Pointer, str, bool]]:
    """Pointer, URL, and whether a private address is allowed there."""
    for server in context.servers():
        if server.type == "external" and server.endpoint:
            yield at(server, "endpoint"), server.endpoint, False
        if server.oauth.jwks:
            yield at(server, "oauth", "jwks", "url"), server.oauth.jwks.url, server.oauth.jwks.allow_private
    admin = context.fleet.proxy.admin
    if admin and admin.jwks:
        yield ("proxy", "admin", "jwks", "url"), admin.jwks.url, admin.jwks.allow_private
    for name, proxy in context.fleet.trusted_proxies.items():
        if proxy.assertion:
            jwks = proxy.assertion.jwks
            yield ("trusted_proxies", name, "assertion", "jwks", "url"), jwks.url, jwks.allow_private
    for index, hook in enumerate(context.fleet.hooks):
        if hook.url is not None:
            yield ("hooks", index, "url"), hook.url, True


def _addresses(context: Context) -> Iterator[tuple[Pointer, Address, bool]]:
    for pointer, url, private_allowed in _urls(context):
        address = read_url(url)
        if isinstance(address, Address):
            yield pointer, address, private_allowed


def invalid(context: Context) -> Iterator[Finding]:
    for pointer, url, _ in _urls(context):
        reason = read_url(url)
        if isinstance(reason, str):
            yield Finding(pointer, f"the URL {reason}")


def insecure(context: Context) -> Iterator[Finding]:
    for pointer, address, _ in _addresses(context):
        if address.scheme == "http" and address.reach != "loopback":
            yield Finding(pointer, "not https: anyone on the way reads what passes, credentials too")


def private(context: Context) -> Iterator[Finding]:
    for pointer, address, private_allowed in _addresses(context):
        if address.reach == "private" and not private_allowed:
            yield Finding(pointer, f"{address.host} is a private, link-local or metadata address")


def bad_public_url(context: Context) -> Iterator[Finding]:
    url = context.fleet.proxy.public_url
    if url is None:
        return
    address = read_url(url)
    if isinstance(address, str):
        yield Finding(("proxy", "public_url"), f"the URL {address}")
    elif address.path not in {"", "/"} or "?" in url:
        yield Finding(("proxy", "public_url"), "clients know the proxy by its origin: no path, no query")
    elif address.scheme == "http" and address.reach != "loopback":
        yield Finding(("proxy", "public_url"), "not https, and not loopback")
