"""What a row keeps of a request and of its answer: by the server's rules, without what is hidden. Pure."""

from collections.abc import Mapping, Sequence

from proxy.audit.record import Payload
from proxy.audit.redact import snapshot
from proxy.call import Call
from proxy.tasks.wire import ABOUT_ONE, WITH_RESULT
from registry.models import RedactRule, Server

_NOTHING = RedactRule()


def snapshot_params(server: Server, call: Call, params: Mapping[str, object] | None, body: bytes, cap: int) -> Payload:
    """Return what is kept of a request's parameters; the rules of its tool are relative to its arguments."""
    pointers: Sequence[str] = _rules(server, call).input
    if pointers:
        pointers = [f"/arguments/{pointer.removeprefix('/')}" for pointer in pointers]
    return snapshot(params, body, pointers, cap, call.hidden)


def snapshot_answer(server: Server, call: Call, message: Mapping[str, object], whole: bytes, cap: int) -> Payload:
    """Return what is kept of an answer: its result, or its error."""
    pointers: Sequence[str] = _rules(server, call).output
    if call.method in WITH_RESULT:
        pointers = [f"/result/{pointer.removeprefix('/')}" for pointer in pointers]
    shown = message.get("result", message.get("error"))
    return snapshot(shown, whole, pointers, cap, call.hidden)


def _rules(server: Server, call: Call) -> RedactRule:
    is_tools = call.is_tool_call or call.method in ABOUT_ONE or call.method in WITH_RESULT
    declared = server.tools.get(call.target or "") if is_tools else None
    return declared.redact if declared else _NOTHING
