"""A tool's answer before it is released: what was promised, past the operator's hooks, tagged with its artifact."""

from typing import Any, cast

from proxy.call import Call
from proxy.guard.hooks import after_event, failure_text
from proxy.guard.outcome import PASSED, Finding, Guarded
from proxy.guard.tool import Mode, ToolGuard, is_complete
from proxy.hooks.chain import Passage, run_after
from proxy.tasks.wire import last_word
from proxy.wire.era import Era
from registry.artifacts import META_KEY

Message = dict[str, object]


def is_as_promised(call: Call, tool: ToolGuard, message: Message, mode: Mode) -> bool:
    """Whether nothing more is to be done about an answer: the promise is kept, and no hook wants to see it."""
    if tool.after or tool.failure or tool.artifact is not None:
        return False
    result = message.get("result")
    return isinstance(result, dict) and _fault(call, tool, cast("dict[str, Any]", result), "", mode) is None


async def judge_result(call: Call, tool: ToolGuard, message: Message, mode: Mode) -> Guarded:
    """Judge the message that ends a tool call; the server's promise first, then what hooks make of it."""
    call.contract = tool.digest
    result = message.get("result")
    if not isinstance(result, dict):
        await tell_failure(call, tool, failure_text(message))
        return PASSED
    known = cast("dict[str, Any]", result)
    finding = _fault(call, tool, known, "contract.output", mode)
    if finding is not None and finding.is_withheld:
        await tell_failure(call, tool, finding.reason)
        return withheld(call, finding)
    if not (tool.after or tool.failure):
        return _guarded(_tagged(call, message, tool, finding), finding)
    return await _pass_hooks(call, tool, message, mode, finding)


async def judge_task(call: Call, tool: ToolGuard, message: Message, mode: Mode) -> Guarded:
    """Judge the result that a task brings along as if its call had been answered so."""
    task = cast("dict[str, Any]", message.get("result")) if isinstance(message.get("result"), dict) else {}
    if not isinstance(task.get("result"), dict):
        return PASSED
    guarded = await judge_result(call, tool, last_word(call.method, message), mode)
    if guarded.message is None:
        return guarded
    return Guarded({**message, "result": {**task, "result": guarded.message["result"]}}, guarded.finding)


async def tell_failure(call: Call, tool: ToolGuard, error: str) -> None:
    """Run the PostToolUseFailure hooks of a call that has no result to show for itself."""
    if tool.failure:
        _note(call, await run_after(tool.failure, after_event(call, None, error)))


async def _pass_hooks(call: Call, tool: ToolGuard, message: Message, mode: Mode, finding: Finding | None) -> Guarded:
    was = cast("dict[str, Any]", message["result"])
    failed = was.get("isError") is True
    steps = tool.failure if failed else tool.after
    if not steps:
        return _guarded(_tagged(call, message, tool, finding), finding)
    passage = await run_after(steps, after_event(call, was, failure_text(message) if failed else None))
    _note(call, passage)
    if passage.refusal is not None:
        code = "hook.failed" if passage.has_failed else "hook.withheld"
        return withheld(call, Finding(code, f"{passage.by}: {passage.refusal.reason}", is_withheld=True))
    if not passage.is_changed:
        return _guarded(_tagged(call, message, tool, finding), finding)
    broken = _fault(call, tool, passage.value, "hook.invalid", mode) if finding is None else None
    if broken is not None and broken.is_withheld:
        return withheld(call, broken)
    changed: Message = {**message, "result": _complete(passage.value, call.era)}
    return Guarded(_tagged(call, changed, tool, finding or broken) or changed, finding or broken)


def _guarded(message: Message | None, finding: Finding | None) -> Guarded:
    return PASSED if message is None and finding is None else Guarded(message, finding)


def _fault(call: Call, tool: ToolGuard, result: dict[str, Any], code: str, mode: Mode) -> Finding | None:
    """Say what a complete result breaks; errors, questions and tasks promise nothing."""
    if mode == "skip" or not is_complete(result, is_modern=call.era is Era.MODERN):
        return None
    wrong = tool.output_fault(result, call.protocol_version)
    return Finding(code, wrong, is_withheld=mode == "strict") if wrong is not None else None


def _complete(result: dict[str, Any], era: Era | None) -> dict[str, Any]:
    """Say that a result is one, where a hook made it anew and the era's clients refuse it otherwise."""
    return {**result, "resultType": "complete"} if era is Era.MODERN and "resultType" not in result else result


def withheld(call: Call, finding: Finding) -> Guarded:
    """Return a tool error in place of what the caller must not get."""
    text = f"The answer of this tool was withheld ({finding.code}): {finding.reason} (execution {call.execution_id})"
    result: dict[str, object] = {"content": [{"type": "text", "text": text}], "isError": True}
    if call.era is Era.MODERN:
        result["resultType"] = "complete"
    return Guarded({"jsonrpc": "2.0", "id": call.rpc_id, "result": result}, finding)


def _tagged(call: Call, message: Message, tool: ToolGuard, finding: Finding | None) -> Message | None:
    """Name the artifact in the result where it is one, and take out what a server claims where it is none."""
    if tool.artifact is None:
        return None
    result = cast("dict[str, Any]", message["result"])
    known: object = result.get("_meta")
    meta = {**cast("dict[str, Any]", known)} if isinstance(known, dict) else {}
    if finding is None and is_complete(result, is_modern=call.era is Era.MODERN):
        return {**message, "result": {**result, "_meta": {**meta, META_KEY: tool.artifact}}}
    if META_KEY not in meta:
        return None
    del meta[META_KEY]
    return {**message, "result": {**result, "_meta": meta}}


def _note(call: Call, passage: Passage) -> None:
    call.hooks = (*call.hooks, *passage.records)
