"""What an agent's manifest leaves of a server: only what it declares exists for that agent (SPEC R7). Pure."""

from proxy.authorize.decision import Kind
from proxy.authorize.rules import OTHERS
from proxy.authorize.uris import UriRules
from registry.models import Agent, AgentServer


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
