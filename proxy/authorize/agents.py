"""What an agent's manifest leaves of a server: only what it declares exists for that agent (SPEC R7). Pure."""

from collections.abc import Iterable

from proxy.authorize.decision import Kind
from proxy.authorize.rules import OTHERS
from proxy.authorize.uris import UriRules
from registry.models import Agent, AgentServer, Fleet


class AgentView:
    """One agent on one server. `is_there` is False if the manifest does not name the server at all."""

    __slots__ = ("_names", "_resources", "is_there", "name")

    def __init__(self, agent: Agent, server_name: str) -> None:
        declared = agent.servers.get(server_name)
        self.name = agent.name
        self.is_there = declared is not None
        found = declared or AgentServer()
        self._names = {"tools": frozenset(found.tools), "prompts": frozenset(found.prompts)}
        self._resources = UriRules((uri, True) for uri in found.resources)

    def declares(self, kind: Kind, name: str) -> bool:
        """Whether the manifest names a thing."""
        match kind:
            case "tools" | "prompts":
                return name in self._names[kind] or OTHERS in self._names[kind]
            case "resources":
                return bool(self._resources.find(name))
            case "resourceTemplates":
                return bool(self._resources.find_template(name))


class Agents:
    """Finds the agents that a caller acts as, by its subject or its client: every manifest that names either binds."""

    __slots__ = ("_by_client", "_by_subject")

    def __init__(self, fleet: Fleet, server_name: str) -> None:
        self._by_subject: dict[str, list[AgentView]] = {}
        self._by_client: dict[str, list[AgentView]] = {}
        for agent in fleet.agents.values():
            view = AgentView(agent, server_name)
            _index(self._by_subject, agent.subjects, view)
            _index(self._by_client, agent.clients, view)

    def of(self, subject: str | None, client: str | None) -> tuple[AgentView, ...]:
        """Return the agents of a caller; empty if no manifest names it."""
        found = [*self._by_subject.get(subject or "", ()), *self._by_client.get(client or "", ())]
        return tuple(dict.fromkeys(found))


def _index(index: dict[str, list[AgentView]], keys: Iterable[str], view: AgentView) -> None:
    for key in keys:
        if key:
            index.setdefault(key, []).append(view)
