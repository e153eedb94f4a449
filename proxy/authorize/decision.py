"""What was decided about a request, and every reason there is to say no."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from registry.models import Tool

Kind = Literal["tools", "prompts", "resources", "resourceTemplates"]
MAX_SHOWN = 128


class AuthzCode(StrEnum):
    """The outcome of authorization, as rows name it."""

    ALLOWED = "authz.allowed"
    METHOD = "authz.method"
    PARAMS = "authz.params"
    UNKNOWN_TOOL = "authz.unknown_tool"
    UNKNOWN_PROMPT = "authz.unknown_prompt"
    UNKNOWN_RESOURCE = "authz.unknown_resource"
    UNKNOWN_TASK = "authz.unknown_task"
    AGENT = "authz.agent"
    AGENT_SERVER = "authz.agent_server"
    SCOPE = "authz.scope"
    CREDENTIAL = "authz.credential"


@dataclass(frozen=True, slots=True)
class Decision:
    """Allowed or not, and why.

    `required` is the whole set that the operation needs, `held` what the caller has, `matched` the held scopes that
    let it through; `agent` names the manifests that bound the caller. `told` is the sentence for the caller where it
    must not learn `reason`, and `kind` the sort of thing that it asked for.
    """

    allowed: bool
    code: AuthzCode
    reason: str
    required: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    matched: tuple[str, ...] = ()
    agent: str | None = None
    kind: Kind | None = None
    rule: Tool | None = None
    told: str | None = None
    can_step_up: bool = False
    is_request: bool = True

    @property
    def artifact(self) -> str | None:
        """The result variant that the registry declares."""
        return self.rule.artifact if self.rule else None


def shown(name: str) -> str:
    """Return a caller's word as rows and answers may hold it: short and printable."""
    return (name if name.isprintable() else ascii(name))[:MAX_SHOWN]
