"""What the pipeline needs to know of each server, compiled once from the registry."""

from dataclasses import dataclass, field

from proxy.auth.bearer import ServerAuth
from proxy.authorize import Policy
from proxy.call import Call
from proxy.upstream.target import UpstreamLimits
from registry.models import Server


@dataclass(slots=True)
class Load:
    """How many requests a server works on for us now."""

    running: int = 0


@dataclass(frozen=True, slots=True)
class Route:
    """One server as its callers meet it: address, door, rules, limits."""

    server: Server
    audience: str
    auth: ServerAuth
    policy: Policy
    payload_bytes: int
    stream_limits: UpstreamLimits
    load: Load = field(default_factory=Load)

    def total_s(self, call: Call) -> float | None:
        """The longest that one exchange may take; a stream lives as long as its two ends like."""
        if call.is_long_lived:
            return None
        tool = call.target() if call.is_tool_call else None
        declared = self.server.tools.get(tool) if tool is not None else None
        return declared.timeout_s if declared and declared.timeout_s else self.server.timeouts.total_s

    def redact_input(self, call: Call) -> tuple[str, ...]:
        """JSON pointers into the arguments that no row may hold."""
        declared = self.server.tools.get(call.target() or "") if call.is_tool_call else None
        return declared.redact.input if declared else ()

    def redact_output(self, call: Call) -> tuple[str, ...]:
        """JSON pointers into the result that no row may hold."""
        declared = self.server.tools.get(call.target() or "") if call.is_tool_call else None
        return declared.redact.output if declared else ()
