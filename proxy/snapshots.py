"""What a row keeps of a request and of its answer: by the server's rules, without what is hidden. Pure."""

from collections.abc import Mapping, Sequence

from proxy.audit.echoes import without
from proxy.audit.record import Payload
from proxy.audit.redact import snapshot
from proxy.call import Call
from proxy.execution.verdict import Verdict, judge
from proxy.tasks.wire import ABOUT_ONE, WITH_RESULT, last_word
from registry.models import RedactRule, Server

_NOTHING = RedactRule()
_COMPARED_CHARS = 8192


def snapshot_params(server: Server, call: Call, params: Mapping[str, object] | None, body: bytes, cap: int) -> Payload:
    """Return what is kept of a request's parameters; the rules of its tool are relative to its arguments."""
    pointers: Sequence[str] = _rules(server, call).input
    if pointers:
        pointers = [f"/arguments/{pointer.removeprefix('/')}" for pointer in pointers]
    return snapshot(params, body, pointers, cap, call.hidden)


def snapshot_answer(server: Server, call: Call, message: Mapping[str, object], whole: bytes, cap: int) -> Payload:
    """Return what is kept of an answer: its result, or its error."""
    shown = message.get("result", message.get("error"))
    return snapshot(shown, whole, _output_pointers(server, call), cap, call.hidden)


def judged_answer(server: Server, call: Call, message: dict[str, object], http_status: int) -> Verdict:
    """Return what an answer says about the outcome, without what the rules of its tool take out of it."""
    verdict = judge(last_word(call.method, message), http_status)
    pointers = _output_pointers(server, call)
    if verdict.error is None or not pointers:
        return verdict
    part = "result" if "result" in message else "error"
    clean, echoes = without(message.get(part), pointers)
    told = judge(last_word(call.method, {**message, part: clean}), http_status).error
    return Verdict(verdict.status, echoes.mask(told[:_COMPARED_CHARS]) if told is not None else None)


def _output_pointers(server: Server, call: Call) -> Sequence[str]:
    pointers = _rules(server, call).output
    return [f"/result/{each.removeprefix('/')}" for each in pointers] if call.method in WITH_RESULT else pointers


def _rules(server: Server, call: Call) -> RedactRule:
    is_tools = call.is_tool_call or call.method in ABOUT_ONE or call.method in WITH_RESULT
    declared = server.tools.get(call.target or "") if is_tools else None
    return declared.redact if declared else _NOTHING
