"""What the pipeline needs to know of each server, compiled once from the registry."""

from dataclasses import dataclass, field

from proxy.audit.hidden import NOTHING, Hidden
from proxy.audit.record import Payload
from proxy.auth.bearer import ServerAuth
from proxy.authorize import Policy
from proxy.call import Call
from proxy.execution.verdict import Verdict
from proxy.guard.guard import Guard
from proxy.snapshots import judged_answer, snapshot_answer, snapshot_params
from proxy.states import States
from proxy.upstream.target import UpstreamLimits
from registry.models import Server


@dataclass(slots=True)
class Load:
    """How many requests a server works on for us now."""

    running: int = 0


@dataclass(frozen=True, slots=True)
class Route:
    """One server as its callers meet it: address, door, rules, limits; `hidden` is what the proxy presents to it."""

    server: Server
    audience: str
    auth: ServerAuth
    policy: Policy
    payload_bytes: int
    stream_limits: UpstreamLimits
    guard: Guard
    states: States
    hidden: Hidden = NOTHING
    load: Load = field(default_factory=Load)

    def total_s(self, call: Call) -> float | None:
        """The longest that one exchange may take; a stream lives as long as its two ends like."""
        if call.is_long_lived:
            return None
        tool = call.target if call.is_tool_call else None
        declared = self.server.tools.get(tool) if tool is not None else None
        return declared.timeout_s if declared and declared.timeout_s else self.server.timeouts.total_s

    def snapshot_input(self, call: Call, body: bytes) -> Payload:
        """What the row keeps of a request."""
        shown = call.envelope.params if call.envelope is not None else None
        return snapshot_params(self.server, call, shown, body, self.payload_bytes)

    def snapshot_output(self, call: Call, message: dict[str, object], whole: bytes) -> Payload:
        """What the row keeps of an answer."""
        return snapshot_answer(self.server, call, message, whole, self.payload_bytes)

    def judge(self, call: Call, message: dict[str, object], http_status: int) -> Verdict:
        """What an answer says about the outcome, as the row may tell it."""
        return judged_answer(self.server, call, message, http_status)
