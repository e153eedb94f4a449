"""What agents name must exist."""

from collections.abc import Iterator, Mapping

from registry.models import Agent, AgentServer, Server, Tool
from registry.problems import quoted
from registry.rules.base import Context, Finding
from registry.schema_problems import near
from registry.source import Pointer

OTHERS = "*"


def unknown_server(context: Context) -> Iterator[Finding]:
    servers = context.layout.declared.get("servers")
    known = servers if isinstance(servers, dict) else {}
    for agent in context.fleet.agents.values():
        for name in agent.servers:
            if name not in known:
                pointer = ("agents", agent.name, "servers", name)
                hint = near(name, known)
                yield Finding(pointer, f"there is no server {quoted(name)}", hint, key=True)


def unknown_tool(context: Context) -> Iterator[Finding]:
    for agent in context.fleet.agents.values():
        for name, wanted in agent.servers.items():
            server = context.fleet.servers.get(name)
            if server is not None:
                yield from _unknown_things(context, agent, server, wanted)


def _unknown_things(context: Context, agent: Agent, server: Server, wanted: AgentServer) -> Iterator[Finding]:
    kinds: tuple[tuple[str, tuple[str, ...], Mapping[str, Tool]], ...] = (
        ("tools", wanted.tools, server.tools),
        ("prompts", wanted.prompts, server.prompts),
        ("resources", wanted.resources, server.resources),
    )
    for kind, names, declared in kinds:
        if context.layout.is_unread(("servers", server.name, kind)):
            continue
        for index, name in enumerate(names):
            if not _is_covered(name, declared):
                pointer: Pointer = ("agents", agent.name, "servers", server.name, kind, index)
                message = f"server {server.name} declares no {kind.removesuffix('s')} {quoted(name)}"
                yield Finding(pointer, message, near(name, declared))


def _is_covered(name: str, declared: Mapping[str, Tool]) -> bool:
    """Whether a name is declared, or falls under a declared prefix (`notes://public/*`, `*`)."""
    if name == OTHERS or name in declared:
        return True
    return any(entry.endswith(OTHERS) and name.startswith(entry[:-1]) for entry in declared)


def selects_nobody(context: Context) -> Iterator[Finding]:
    for agent in context.fleet.agents.values():
        if not any(agent.subjects) and not any(agent.clients):
            yield Finding(
                ("agents", agent.name), "it names no subject and no client, so nobody is this agent", key=True
            )
