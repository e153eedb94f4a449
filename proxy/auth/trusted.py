"""The registry's `trusted_proxies`, compiled for one server."""

from collections.abc import Mapping

from proxy.auth.assertion import Assertions, Scheme, Trust
from proxy.auth.jwt_scheme import JwtScheme
from proxy.auth.keys import Secrets
from proxy.auth.nonces import NonceStore
from proxy.auth.postern_scheme import PosternScheme
from proxy.auth.proxy_keys import read_keys
from proxy.auth.rfc9421_scheme import Rfc9421Scheme
from registry.models import Fleet, Server, TrustedProxy


def build_assertions(
    fleet: Fleet, server: Server, secrets: Secrets, nonces: NonceStore, ceilings: Mapping[str, frozenset[str]]
) -> Assertions:
    """Compile what proxies may assert at a server. Raises `ValueError` for a declaration that verifies nothing."""
    trusted = {name: Trust(frozenset(proxy.servers), ceilings[name]) for name, proxy in fleet.trusted_proxies.items()}
    return Assertions(server.name, _schemes(fleet, server, secrets), trusted, nonces)


def _schemes(fleet: Fleet, server: Server, secrets: Secrets) -> list[Scheme]:
    audience = fleet.audience(server)
    schemes: list[Scheme] = []
    if keys := read_keys(_of(fleet, "postern"), secrets):
        schemes.append(PosternScheme(keys, audience))
    if keys := read_keys(_of(fleet, "rfc9421"), secrets):
        schemes.append(Rfc9421Scheme(keys, audience))
    for name, proxy in _of(fleet, "jwt"):
        if proxy.assertion is None:
            raise ValueError(f"trusted_proxies.{name}: the scheme jwt needs `assertion`")
        schemes.append(JwtScheme(name, proxy.assertion))
    return schemes


def _of(fleet: Fleet, scheme: str) -> list[tuple[str, TrustedProxy]]:
    return [(name, proxy) for name, proxy in fleet.trusted_proxies.items() if proxy.scheme == scheme]
