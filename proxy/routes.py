"""What the pipeline needs to know of each server, compiled once from the registry."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from proxy.audit.detector import MASK
from proxy.audit.record import Payload
from proxy.audit.redact import snapshot
from proxy.auth.bearer import ServerAuth
from proxy.authorize import Policy
from proxy.call import Call
from proxy.guard import Guard
from proxy.tasks_wire import ABOUT_ONE, WITH_RESULT
from proxy.upstream.target import UpstreamLimits
from registry.models import RedactRule, Server

_NOTHING = RedactRule()


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
    guard: Guard
    hidden: tuple[str, ...] = field(default=(), repr=False)
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
        arguments = [f"/arguments/{pointer.removeprefix('/')}" for pointer in self._rules(call).input]
        return self._hide(snapshot(shown, body, arguments, self.payload_bytes))

    def snapshot_output(self, call: Call, message: dict[str, object], whole: bytes) -> Payload:
        """What the row keeps of an answer."""
        pointers: Sequence[str] = self._rules(call).output
        if call.method in WITH_RESULT:
            pointers = [f"/result/{pointer.removeprefix('/')}" for pointer in pointers]
        shown = message.get("result", message.get("error"))
        return self._hide(snapshot(shown, whole, pointers, self.payload_bytes))

    def _rules(self, call: Call) -> RedactRule:
        is_tools = call.is_tool_call or call.method in ABOUT_ONE or call.method in WITH_RESULT
        declared = self.server.tools.get(call.target or "") if is_tools else None
        return declared.redact if declared else _NOTHING

    def _hide(self, payload: Payload) -> Payload:
        """Our own credentials for the server are in no row, even if the server repeats them."""
        text = payload.text
        if text is None or not any(secret in text for secret in self.hidden):
            return payload
        for secret in self.hidden:
            text = text.replace(secret, MASK)
        return replace(payload, text=text)
