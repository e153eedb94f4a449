"""The registry as a service (SPEC R4, R5): what exists now, and how it changed at the last reload."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from registry.gate import GateResult, check
from registry.models import Agent, Fleet, Server, Tool
from registry.permissions import Implications
from registry.problems import Problem
from registry.views import PROTOCOL_VERSIONS, View, describe_fleet, describe_to_consumers

OTHERS = "*"
Gate = Callable[[Path], GateResult]
GLOBAL_SECTIONS = ("fleet", "proxy", "audit", "permissions", "trusted_proxies", "hooks", "agents")


@dataclass(frozen=True, slots=True)
class Changes:
    """What is different between two fleets: names of servers, and the sections that concern all of them."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    global_changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.global_changed)


@dataclass(frozen=True, slots=True)
class Reload:
    """The outcome of a reload: what changed, or why the old fleet goes on."""

    changes: Changes | None
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom `tools_for` answers: what a token says."""

    scopes: frozenset[str] = frozenset()
    subject: str | None = None
    client: str | None = None


@dataclass(frozen=True, slots=True)
class ToolEntry:
    """One tool of one server; the name `*` stands for all that are not named."""

    server: str
    name: str
    tool: Tool


class RefusedError(Exception):
    """The first load found problems: nothing starts."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(f"{len(problems)} problems in the registry")
        self.problems = problems


class Registry:
    """The fleet of one registry file. A reload swaps it whole; readers that hold the old one are not disturbed."""

    def __init__(self, path: Path, fleet: Fleet, gate: Gate) -> None:
        self.path = path
        self.fleet = fleet
        self.problems: tuple[Problem, ...] = ()
        self._gate = gate
        self._implications = Implications.of(fleet.permissions)

    @classmethod
    def load(cls, path: Path, environ: Mapping[str, str], gate: Gate | None = None) -> Self:
        """Pass the gate and hold the fleet; raises `RefusedError` with every finding."""
        gate = gate or (lambda file: check(file, environ=environ))
        result = gate(path)
        if result.fleet is None:
            raise RefusedError(result.problems)
        return cls(path, result.fleet, gate)

    def reload(self) -> Reload:
        """Read the file again. With findings the old fleet stays, and `problems` says why; else what changed."""
        result = self._gate(self.path)
        self.problems = result.problems
        if result.fleet is None:
            return Reload(None, result.problems)
        changes = diff(self.fleet, result.fleet)
        self.fleet, self._implications = result.fleet, Implications.of(result.fleet.permissions)
        return Reload(changes, ())

    def list(self) -> tuple[Server, ...]:
        """Return the servers that exist now."""
        return self.fleet.enabled_servers()

    def find(self, name: str) -> Server | None:
        """Return a server that exists now."""
        return next((server for server in self.list() if server.name == name), None)

    def exists(self, name: str) -> bool:
        return self.find(name) is not None

    def tools(self, server: str | None = None) -> tuple[ToolEntry, ...]:
        """Return the declared tools of one server, or of all."""
        servers = [each for each in self.list() if server in {None, each.name}]
        return tuple(ToolEntry(each.name, name, tool) for each in servers for name, tool in each.tools.items())

    def tools_for(self, caller: Caller) -> tuple[ToolEntry, ...]:
        """Return the tools that a caller may use: its scopes satisfy them, and its agents' manifests name them.

        Answers from the declarations; what an upstream offers at this moment only the proxy knows.
        """
        agents = self._agents_of(caller)
        return tuple(
            visible
            for entry in self.tools()
            if self._is_satisfied(entry, caller.scopes)
            for visible in _within(entry, agents, self.fleet.servers[entry.server])
        )

    def external(self, name: str) -> View | None:
        """Return what somebody outside needs to use a server; None if there is none."""
        server = self.find(name)
        return describe_to_consumers(self.fleet, server) if server else None

    def describe(self) -> View:
        """Return everything that an administrator may see, ready for JSON."""
        return describe_fleet(self.fleet)

    @property
    def protocol_versions(self) -> tuple[str, ...]:
        return PROTOCOL_VERSIONS

    def _agents_of(self, caller: Caller) -> tuple[Agent, ...]:
        return tuple(
            agent
            for agent in self.fleet.agents.values()
            if (caller.subject and caller.subject in agent.subjects)
            or (caller.client and caller.client in agent.clients)
        )

    def _is_satisfied(self, entry: ToolEntry, held: frozenset[str]) -> bool:
        needed = (*self.fleet.servers[entry.server].oauth.scopes, *entry.tool.scopes)
        ways = entry.tool.any_of or ((),)
        return any(self._implications.match(held, (*needed, *way)) is not None for way in ways)


def _within(entry: ToolEntry, agents: tuple[Agent, ...], server: Server) -> Iterator[ToolEntry]:
    """Narrow a tool to what every agent names; `*` on a server becomes the names that the agents give."""
    manifests = [agent.servers[entry.server].tools if entry.server in agent.servers else () for agent in agents]
    if entry.name != OTHERS or not manifests:
        if all(entry.name in names or OTHERS in names for names in manifests):
            yield entry
        return
    candidates = dict.fromkeys(name for names in manifests for name in names)
    for name in candidates:
        if name not in server.tools and all(name in names or OTHERS in names for names in manifests):
            yield ToolEntry(entry.server, name, entry.tool)
    if all(OTHERS in names for names in manifests):
        yield entry


def diff(old: Fleet, new: Fleet) -> Changes:
    """Compare two fleets, server by server; what is equal is not touched by a reload."""
    before = {server.name: section_hash(old, server) for server in old.enabled_servers()}
    after = {server.name: section_hash(new, server) for server in new.enabled_servers()}
    return Changes(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(name for name in after if name in before and before[name] != after[name]),
        global_changed=tuple(name for name in GLOBAL_SECTIONS if getattr(old, name) != getattr(new, name)),
    )


def section_hash(fleet: Fleet, server: Server) -> str:
    """Return the SHA-256 (hex) of everything that concerns one server; the same in every process."""
    section = {"server": server.model_dump(mode="json"), "url": fleet.resource_url(server)}
    return hashlib.sha256(json.dumps(section, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
