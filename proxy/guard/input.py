"""A tool call before it is forwarded: its arguments fit the pinned schema, and the operator's hooks let it pass."""

from typing import Any, cast

from proxy import errors
from proxy.call import Call
from proxy.errors import Refusal
from proxy.guard.hooks import before_event, rewritten
from proxy.guard.tool import Mode, ToolGuard
from proxy.hooks.api import Refuse
from proxy.hooks.chain import Passage, run_before
from proxy.wire.era import Era
from proxy.wire.headers import check_params
from proxy.wire.jsonrpc import Envelope


def has_input_fault(call: Call, tool: ToolGuard) -> bool:
    """Whether the arguments do not fit the schema."""
    return call.envelope is not None and tool.input_fault(_arguments(call.envelope)) is not None


def examine(call: Call, tool: ToolGuard, mode: Mode) -> Refusal | None:
    """Return why the call is refused: its arguments fit neither the headers that mirror them nor the schema."""
    envelope = call.envelope
    if envelope is None:
        return None
    if tool.params and call.era is Era.MODERN and (fault := check_params(call.headers, envelope, tool.params)):
        return Refusal(fault.code, fault.status, fault.jsonrpc_code, fault.message)
    wrong = tool.input_fault(_arguments(envelope))
    if wrong is not None and mode == "strict":
        return _invalid(call, wrong)
    if wrong is not None:
        call.note = f"contract.input: {wrong}"
    return None


async def run_hooks(call: Call, tool: ToolGuard, payload_bytes: int) -> Refusal | None:
    """Let the hooks refuse the call or rewrite it, of which the row keeps `payload_bytes` at most."""
    envelope = call.envelope
    if envelope is None:
        return None
    arguments = _arguments(envelope)
    if not isinstance(arguments, dict):
        return _invalid(call, "/: arguments must be an object")
    passage = await run_before(tool.before, before_event(call, cast("dict[str, Any]", arguments)))
    call.hooks = (*call.hooks, *passage.records)
    if passage.refusal is not None:
        return _refused_by(passage, passage.refusal)
    if not passage.is_changed:
        return None
    wrong = tool.input_fault(passage.value)
    if wrong is not None:
        reason = f"a hook rewrote the arguments so that they do not fit the tool: {wrong}"
        return Refusal("hook.invalid", 503, errors.UNAVAILABLE, reason)
    rewritten(call, passage.value, tool.params, payload_bytes)
    return None


def _arguments(envelope: Envelope) -> object:
    return (envelope.params or {}).get("arguments", {})


def _invalid(call: Call, wrong: str) -> Refusal:
    status = 200 if call.era is Era.LEGACY else 400
    data: dict[str, object] = {"path": wrong.partition(":")[0]}
    return Refusal("contract.input", status, errors.INVALID_PARAMS, f"invalid arguments: {wrong}", (), data)


def _refused_by(passage: Passage, refusal: Refuse) -> Refusal:
    if passage.has_failed:
        return Refusal("hook.failed", 503, errors.UNAVAILABLE, refusal.reason, ((b"retry-after", b"1"),))
    reason = f"hook {passage.by} refuses: {refusal.reason}"
    if refusal.retry_after_s is not None:
        headers = ((b"retry-after", b"%d" % max(1, refusal.retry_after_s)),)
        return Refusal("hook.refused", 429, errors.TOO_MANY, reason, headers)
    return Refusal("hook.refused", 403, errors.FORBIDDEN, reason)
