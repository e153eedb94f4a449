"""Scopes: written right, needed somewhere, and within somebody's reach."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from registry.addresses import canonical_audience
from registry.models import Server, Tool
from registry.permissions import Implications, PermissionCycleError, PermissionSizeError, find_cycle
from registry.problems import quoted
from registry.rules.base import Context, Finding, at, placed, repeated
from registry.rules.keys import speakers_for
from registry.schema_problems import near
from registry.source import Pointer

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 §3.3


def required_but_empty(context: Context) -> Iterator[Finding]:
    for server in context.servers():
        if server.oauth.required and not server.oauth.scopes:
            yield Finding(at(server, "oauth", "scopes"), "a token is required, and no scope: any token would do")


def duplicate_audience(context: Context) -> Iterator[Finding]:
    fleet = context.fleet
    named = [(fleet.audience(server), at(server, "oauth", "audience")) for server in context.servers()]
    if fleet.proxy.admin:
        named.append((fleet.proxy.admin.audience or fleet.admin_url(), ("proxy", "admin", "audience")))
    entries = [(canonical_audience(audience).rstrip("/"), pointer) for audience, pointer in named]
    for later, first in repeated(entries):
        yield Finding(later, f"{placed(context, first)} has the same audience", related=(first,))


def _needed(server: Server) -> Iterator[tuple[Pointer, str]]:
    """Every scope that a server needs, where it is written."""
    for index, scope in enumerate(server.oauth.scopes):
        yield at(server, "oauth", "scopes", index), scope
    kinds: dict[str, dict[str, Tool]] = {
        "tools": dict(server.tools),
        "prompts": dict(server.prompts),
        "resources": dict(server.resources),
    }
    for kind, things in kinds.items():
        for name, thing in things.items():
            for index, scope in enumerate(thing.scopes):
                yield at(server, kind, name, "scopes", index), scope
            for way, scopes in enumerate(thing.any_of):
                for index, scope in enumerate(scopes):
                    yield at(server, kind, name, "any_of", way, index), scope


def _declared(context: Context) -> Iterator[tuple[Pointer, str]]:
    permissions = context.fleet.permissions
    for index, scope in enumerate(permissions.ladder):
        yield ("permissions", "ladder", index), scope
    for index, scope in enumerate(permissions.scopes):
        yield ("permissions", "scopes", index), scope
    for wider, scopes in permissions.implies.items():
        yield ("permissions", "implies", wider), wider
        for index, scope in enumerate(scopes):
            yield ("permissions", "implies", wider, index), scope
    for name, proxy in context.fleet.trusted_proxies.items():
        for index, scope in enumerate(proxy.permissions):
            yield ("trusted_proxies", name, "permissions", index), scope


def malformed(context: Context) -> Iterator[Finding]:
    found = [*_declared(context), *(entry for server in context.servers() for entry in _needed(server))]
    found.append((("proxy", "admin_scope"), context.fleet.proxy.admin_scope))
    found.append((("proxy", "auditor_scope"), context.fleet.proxy.auditor_scope))
    for pointer, scope in found:
        if not _SCOPE.fullmatch(scope):
            yield Finding(pointer, f"{quoted(scope)} is not a scope")


def circular(context: Context) -> Iterator[Finding]:
    cycle = find_cycle(context.fleet.permissions)
    if cycle:
        families = [("permissions", "implies", scope) for scope in cycle if scope in context.fleet.permissions.implies]
        pointer: Pointer = min(families, key=context.layout.place, default=("permissions", "ladder"))
        yield Finding(pointer, f"these imply each other in a circle: {' > '.join(map(quoted, cycle))}", key=True)


def too_many(context: Context) -> Iterator[Finding]:
    try:
        Implications.of(context.fleet.permissions)
    except PermissionSizeError as error:
        yield Finding(("permissions",), str(error), key=True)
    except PermissionCycleError:
        return


def unsatisfiable(context: Context) -> Iterator[Finding]:
    """A scope that no token and no assertion can ever bring to this server."""
    try:
        implications = Implications.of(context.fleet.permissions)
    except (PermissionCycleError, PermissionSizeError):
        implications = None
    reaches: dict[_Callers, frozenset[str] | None] = {}
    for server in context.servers():
        callers = _Callers(bool(server.oauth.keys or server.oauth.jwks), speakers_for(context, server))
        if callers not in reaches:
            reaches[callers] = _reach(context, callers, implications)
        within = reaches[callers]
        if within is None or (not within and server.oauth.required):
            continue  # anything is possible, the model itself is broken, or OAUTH-KEYS-MISSING says it already
        for pointer, scope in _needed(server):
            if scope not in within:
                message = f"nothing can ever satisfy {quoted(scope)}: {callers.limit}"
                yield Finding(pointer, message, near(scope, within))


class _Callers(NamedTuple):
    """How callers of a server can be recognised; servers with the same ways are judged alike."""

    by_token: bool
    by_proxies: tuple[str, ...]

    @property
    def limit(self) -> str:
        """Say what bounds the permissions that they can hold."""
        if self.by_token:
            return "none of `permissions.scopes` implies it"
        return (
            "it is above what the trusted proxies may assert" if self.by_proxies else "this server recognises no caller"
        )


def _reach(context: Context, callers: _Callers, implications: Implications | None) -> frozenset[str] | None:
    """Return everything that callers can satisfy at most; None if that cannot be told."""
    fleet = context.fleet
    if callers.by_token and not fleet.permissions.scopes:
        return None
    held = set(fleet.permissions.scopes if callers.by_token else ())
    for name in callers.by_proxies:
        held.update(fleet.trusted_proxies[name].permissions)
    if held and implications is None:
        return None
    return implications.expand(held) if implications else frozenset()
