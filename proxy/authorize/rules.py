"""What one server declares, compiled: which scopes lead to each tool, prompt and resource. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from proxy.authorize.decision import Kind
from proxy.authorize.uris import UriRules
from registry.models import Server, Tool

OTHERS = "*"


@dataclass(frozen=True, slots=True)
class Rule:
    """`ways` are alternatives; each is the whole set of scopes that it needs, those of the server among them."""

    ways: tuple[tuple[str, ...], ...]
    declared: Tool | None = None


class ServerRules:
    """Finds the rules that govern a thing; none means that it is not there."""

    __slots__ = ("_named", "_resources", "base")

    def __init__(self, server: Server) -> None:
        scopes = server.oauth.scopes
        self.base = Rule((unique(scopes),))
        self._named: dict[str, dict[str, Rule]] = {
            "tools": compile_rules(scopes, server.tools),
            "prompts": compile_rules(scopes, server.prompts),
        }
        self._resources = UriRules(compile_rules(scopes, server.resources))

    def find(self, kind: Kind, name: str) -> tuple[Rule, ...]:
        """Return the rules for a thing, all of which must be met; empty if it is not declared."""
        match kind:
            case "tools" | "prompts":
                named = self._named[kind]
                rule = named.get(name) or named.get(OTHERS)
                return () if rule is None else (rule,)
            case "resources":
                return self._resources.find(name)
            case "resourceTemplates":
                return self._resources.find_template(name)


def compile_rules(scopes: Iterable[str], declared: Mapping[str, Tool]) -> dict[str, Rule]:
    """Return the rule of each declared thing."""
    return {name: _compile(tuple(scopes), tool) for name, tool in declared.items()}


def _compile(scopes: tuple[str, ...], tool: Tool) -> Rule:
    alternatives = tool.any_of or ((),)
    return Rule(tuple(unique((*scopes, *tool.scopes, *alternative)) for alternative in alternatives), tool)


def unique(items: Iterable[str]) -> tuple[str, ...]:
    """Return each item once, in order."""
    return tuple(dict.fromkeys(items))
