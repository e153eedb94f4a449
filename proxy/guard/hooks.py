"""Between a call and its hooks: what they are shown, and what a rewriting one does to the call."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import msgspec
from msgspec import structs

from proxy.auth.identity import Authenticated
from proxy.call import Call
from proxy.hooks.api import Caller, HookEvent
from proxy.hooks.mirror import mirrored
from proxy.snapshots import snapshot_params
from proxy.wire.era import Era
from proxy.wire.params import ParamHeader

_ERROR_CHARS = 500


def before_event(call: Call, arguments: dict[str, Any]) -> HookEvent:
    """Return what PreToolUse hooks are shown."""
    return HookEvent(
        event="PreToolUse",
        server=call.server_name,
        tool=call.target or "",
        arguments=arguments,
        caller=_caller(call),
        execution_id=str(call.execution_id),
    )


def after_event(call: Call, result: dict[str, Any] | None, error: str | None) -> HookEvent:
    """Return what PostToolUse hooks are shown or, with an error, PostToolUseFailure hooks."""
    params = (call.envelope.params if call.envelope is not None else None) or {}
    arguments: object = params.get("arguments")
    known = cast("dict[str, Any]", arguments) if isinstance(arguments, dict) else {}
    event = before_event(call, msgspec.json.decode(msgspec.json.encode(known)))
    name = "PostToolUse" if error is None else "PostToolUseFailure"
    return replace(event, event=name, result=result, error=error)


def rewritten(call: Call, arguments: dict[str, Any], params: Sequence[ParamHeader], payload_bytes: int) -> None:
    """Let the call go on with other arguments. Its row keeps size and digest of what the client sent."""
    envelope = call.envelope
    if envelope is None:
        return
    changed = {**(envelope.params or {}), "arguments": arguments}
    call.take(envelope.with_params(changed))
    if call.era is Era.MODERN:
        call.headers = mirrored(call.headers, params, arguments)
    if call.input is not None and call.server is not None:
        shown = snapshot_params(call.server, call, changed, b"", payload_bytes)
        call.input = structs.replace(call.input, text=shown.text)


def failure_text(message: Mapping[str, object]) -> str:
    """Return the sentence of an error message, or of a tool's error result."""
    error = message.get("error")
    if isinstance(error, dict):
        return str(cast("dict[str, Any]", error).get("message"))[:_ERROR_CHARS]
    result = message.get("result")
    content: object = cast("dict[str, Any]", result).get("content") if isinstance(result, dict) else None
    for block in cast("list[object]", content) if isinstance(content, list) else ():
        text: object = cast("dict[str, Any]", block).get("text") if isinstance(block, dict) else None
        if isinstance(text, str):
            return text[:_ERROR_CHARS]
    return "the tool failed"


def _caller(call: Call) -> Caller:
    agent = (call.decision.agent if call.decision is not None else None) or ""
    match call.identity:
        case Authenticated() as who:
            return Caller(who.subject, who.issuer, who.client or "", agent)
        case _:
            return Caller(agent=agent)
