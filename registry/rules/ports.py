"""Where servers listen."""

from collections.abc import Iterator

from registry.models import Server
from registry.rules.base import Context, Finding, at, placed, repeated
from registry.source import Pointer

FIRST_UNPRIVILEGED = 1024
LAST = 65_535


def _internal(context: Context) -> Iterator[Server]:
    return (server for server in context.servers() if server.type == "internal")


def _ports(context: Context) -> Iterator[tuple[Server, int]]:
    return ((server, server.port) for server in _internal(context) if server.port is not None)


def missing(context: Context) -> Iterator[Finding]:
    for server in _internal(context):
        if server.port is None:
            yield Finding(at(server, "port"), "an internal server needs a port")


def out_of_range(context: Context) -> Iterator[Finding]:
    for server, port in _ports(context):
        if not 1 <= port <= LAST:
            yield Finding(at(server, "port"), f"must be 1-65535, got {port}")


def privileged(context: Context) -> Iterator[Finding]:
    for server, port in _ports(context):
        if 1 <= port < FIRST_UNPRIVILEGED:
            yield Finding(at(server, "port"), f"{port} is a privileged port")


def outside_window(context: Context) -> Iterator[Finding]:
    window = context.fleet.fleet.ports
    for server, port in _ports(context):
        if (
            FIRST_UNPRIVILEGED <= port <= LAST
            and window.first <= window.last
            and not window.first <= port <= window.last
        ):
            yield Finding(at(server, "port"), f"{port} is outside the fleet's ports {window.first}-{window.last}")


def empty_window(context: Context) -> Iterator[Finding]:
    window = context.fleet.fleet.ports
    if window.first > window.last:
        yield Finding(("fleet", "ports", "last"), f"{window.last} is below the first port, {window.first}")


def conflict(context: Context) -> Iterator[Finding]:
    taken: list[tuple[object, Pointer]] = [(context.fleet.proxy.port, ("proxy", "port"))]
    taken += [(port, at(server, "port")) for server, port in _ports(context)]
    ports = {at(server, "port"): port for server, port in _ports(context)}
    for later, first in repeated(taken):
        yield Finding(later, f"{ports[later]} is also the port of {placed(context, first)}", related=(first,))
