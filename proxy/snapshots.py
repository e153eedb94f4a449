"""What a row keeps of a request and of its answer: by the server's rules, without what is hidden. Pure."""

from collections.abc import Mapping

from proxy.audit.record import Payload
from proxy.audit.redact import snapshot
from proxy.call import Call
from registry.models import RedactRule, Server

_NOTHING = RedactRule()


def snapshot_params(server: Server, call: Call, params: Mapping[str, object] | None, body: bytes, cap: int) -> Payload:
    """Return what is kept of a request's parameters; the rules of its tool are relative to its arguments."""
    pointers = [f"/arguments/{pointer.removeprefix('/')}" for pointer in _rules(server, call).input]
    return snapshot(params, body, pointers, cap, call.hidden)


def snapshot_answer(server: Server, call: Call, message: Mapping[str, object], whole: bytes, cap: int) -> Payload:
    """Return what is kept of an answer: its result, or its error."""
    shown = message.get("result", message.get("error"))
    return snapshot(shown, whole, _rules(server, call).output, cap, call.hidden)


def _rules(server: Server, call: Call) -> RedactRule:
    declared = server.tools.get(call.target or "") if call.is_tool_call else None
    return declared.redact if declared else _NOTHING
