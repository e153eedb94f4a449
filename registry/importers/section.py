"""A found server → its section of the registry, with every secret a reference."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from registry.importers.found import FoundSecret, FoundServer
from registry.source import Data

Refer = Callable[[FoundSecret], str]


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is about to be added under `servers:`; `secrets` maps each new reference to where it was found."""

    name: str
    section: dict[str, Data]
    secrets: Mapping[str, FoundSecret]


def propose(found: FoundServer, port: int | None, *, in_store: bool) -> Proposal:
    """Return the section of a server. It is off while an input is missing, and offers no tool until one is declared."""
    secrets: dict[str, FoundSecret] = {}

    def refer(secret: FoundSecret) -> str:
        reference = reference_of(found.name, secret.name, in_store=in_store)
        if secret.variable is not None:
            reference = f"env:{secret.variable}"
        secrets[reference] = secret
        return reference

    section: dict[str, Data] = {
        "display_name": found.display_name,
        "description": found.description or f"imported: {found.display_name}",
    }
    if found.inputs:
        section["enabled"] = False
    section |= _started(found, port, refer) if found.command else _remote(found, refer)
    signing = FoundSecret("signing-key")
    section["oauth"] = {
        "scopes": [f"{found.name}:use"],
        "keys": [{"kid": "1", "secret": refer(signing)}],
    }
    section["tools"] = {}
    return Proposal(found.name, section, secrets)


def _started(found: FoundServer, port: int | None, refer: Refer) -> dict[str, Data]:
    section: dict[str, Data] = {"transport": found.transport, "port": port, "command": list(found.command)}
    if found.path and found.path != "/mcp":
        section["path"] = found.path
    if found.cwd:
        section["cwd"] = found.cwd
    if found.env:
        section["env"] = {name: _variable(value, refer) for name, value in found.env.items()}
    return section


def _variable(value: FoundSecret | str, refer: Refer) -> Data:
    return value if isinstance(value, str) else {"value": refer(value), "secret": True}


def _remote(found: FoundServer, refer: Refer) -> dict[str, Data]:
    section: dict[str, Data] = {"type": "external", "endpoint": found.endpoint}
    if found.headers:
        section["headers"] = [{"name": name, "value": refer(secret)} for name, secret in found.headers.items()]
    return section


def reference_of(server: str, name: str, *, in_store: bool) -> str:
    """Return a reference of the server's own, so that one server's variable never holds another's secret."""
    if in_store:
        return f"store:{server}-{re.sub('[^A-Za-z0-9._-]+', '-', name).strip('-').lower()}"
    return "env:" + re.sub("[^A-Z0-9]+", "_", f"{server}_{name}".upper()).strip("_")


def fill_inputs(found: FoundServer, given: Mapping[str, str]) -> FoundServer:
    """Put given inputs where their placeholders are."""

    def filled(text: str) -> str:
        for name, value in given.items():
            text = text.replace(f"${{{name}}}", value)
        return text

    return replace(
        found,
        command=tuple(filled(word) for word in found.command),
        endpoint=filled(found.endpoint) if found.endpoint else None,
        cwd=filled(found.cwd) if found.cwd else None,
        inputs=tuple(name for name in found.inputs if name not in given),
    )


def distinct_names(servers: tuple[FoundServer, ...], taken: frozenset[str]) -> tuple[FoundServer, ...]:
    """Give each server a name that nobody has."""
    used = set(taken)
    named: list[FoundServer] = []
    for server in servers:
        name, count = server.name, 1
        while name in used:
            count += 1
            name = f"{server.name[:58]}-{count}"
        used.add(name)
        named.append(replace(server, name=name))
    return tuple(named)
