"""The hooks of one call, one after the other in the order of the registry, and what the row says about each.

Before the tool a hook that raises, hangs or answers nonsense refuses the call. After it, such a hook is recorded and
the next one runs; where it is `required`, the result is withheld.
"""

import asyncio
import logging
import math
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from time import perf_counter_ns
from typing import Any, cast

import msgspec

from proxy.hooks.api import Answer, EventName, HookEvent, Refuse, Replace, Rewrite
from proxy.hooks.errors import HookError, HookRaisedError
from registry.contracts.canonical import NotCanonicalError, digest
from registry.contracts.differences import differences

MOST_LEFT_BEHIND = 64
_SHOWN_CHANGES = 20
_NO_OBJECT = "what is no JSON object"
_log = logging.getLogger("postern.hooks")
Record = dict[str, object]


@dataclass(frozen=True, slots=True)
class Step:
    """One declared hook, ready to run. `tools` are names or patterns (`delete_*`), none for every tool."""

    name: str
    event: EventName
    run: Callable[[HookEvent], Awaitable[object]]
    timeout_s: float
    tools: tuple[str, ...] = ()
    required: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    left_behind: "set[asyncio.Future[object]]" = field(default_factory=set["asyncio.Future[object]"], compare=False)

    def is_for(self, tool: str) -> bool:
        """Whether the hook looks at a tool."""
        return not self.tools or any(fnmatchcase(tool, pattern) for pattern in self.tools)


@dataclass(frozen=True, slots=True)
class Passage:
    """What came of a chain. `value` is the arguments or the result as they are now, `is_changed` if a hook did it."""

    value: dict[str, Any]
    is_changed: bool = False
    refusal: Refuse | None = None
    by: str = ""
    has_failed: bool = False
    records: tuple[Record, ...] = ()


async def run_before(steps: Sequence[Step], event: HookEvent) -> Passage:
    """Run PreToolUse hooks; the first that refuses or fails ends the chain."""
    passage = Passage(event.arguments)
    for step in steps:
        answer, record = await _run(step, replace(event, arguments=_copy(passage.value), settings=step.settings))
        if isinstance(answer, HookError):
            refusal = Refuse(f"hook {step.name} failed, so the call is refused: {answer}")
            return replace(passage, refusal=refusal, by=step.name, has_failed=True, records=(*passage.records, record))
        if isinstance(answer, Refuse):
            return replace(passage, refusal=answer, by=step.name, records=(*passage.records, record))
        passage = _changed(passage, answer.arguments if isinstance(answer, Rewrite) else None, record)
    return passage


async def run_after(steps: Sequence[Step], event: HookEvent) -> Passage:
    """Run PostToolUse or PostToolUseFailure hooks on the result."""
    passage = Passage(event.result or {})
    for step in steps:
        shown = _copy(passage.value) if event.result is not None else None
        answer, record = await _run(step, replace(event, result=shown, settings=step.settings))
        if isinstance(answer, HookError):
            passage = replace(passage, records=(*passage.records, record))
            if step.required:
                refusal = Refuse(f"hook {step.name} failed, and is required")
                return replace(passage, refusal=refusal, by=step.name, has_failed=True)
            continue
        if isinstance(answer, Refuse):
            return replace(passage, refusal=answer, by=step.name, records=(*passage.records, record))
        passage = _changed(passage, answer.result if isinstance(answer, Replace) else None, record)
    return passage


def _changed(passage: Passage, value: dict[str, Any] | None, record: Record) -> Passage:
    if value is None:
        return replace(passage, records=(*passage.records, record))
    places = [place.pointer or "/" for place in differences(passage.value, value)]
    if not places:
        return replace(passage, records=(*passage.records, record))
    told: Record = {"before": _digest(passage.value), "after": _digest(value), "changed": places[:_SHOWN_CHANGES]}
    return replace(passage, value=value, is_changed=True, records=(*passage.records, {**record, **told}))


async def _run(step: Step, event: HookEvent) -> tuple[Answer | HookError, Record]:
    began = perf_counter_ns()
    answer = await _ask(step, event)
    record: Record = {"hook": step.name, "event": event.event, "did": _deed(answer)}
    record["ms"] = round((perf_counter_ns() - began) / 1e6, 2)
    if isinstance(answer, Refuse):
        record["reason"] = answer.reason
    elif isinstance(answer, HookError):
        record["reason"] = str(answer)
    return answer, record


async def _ask(step: Step, event: HookEvent) -> Answer | HookError:
    """Return the hook's answer, or how it failed. One that ignores its cancellation is left behind, but not many."""
    if len(step.left_behind) >= MOST_LEFT_BEHIND:
        return HookError(f"{len(step.left_behind)} calls of it have not ended after their time limit")
    asked = asyncio.ensure_future(step.run(event))
    try:
        done, _ = await asyncio.wait({asked}, timeout=step.timeout_s)
    except asyncio.CancelledError:
        asked.cancel()
        raise
    if not done:
        step.left_behind.add(asked)
        asked.add_done_callback(step.left_behind.discard)
        asked.cancel()
        return HookError(f"no answer within {step.timeout_s:g} s")
    if asked.cancelled():
        return HookError("it cancelled itself")
    failure = asked.exception()
    if isinstance(failure, HookRaisedError):
        failure = failure.failure
    if isinstance(failure, HookError):
        return failure
    if failure is not None:
        _log.error("hook %s raised %s at %s", step.name, type(failure).__name__, _place(failure))
        return HookError(f"it raised {type(failure).__name__}")
    return _sensible(asked.result(), event.event)


def _sensible(answer: object, event: EventName) -> Answer | HookError:
    """Return the answer as it goes on, its value as JSON says it; nonsense is an error that says what is wrong."""
    match answer:
        case None:
            return None
        case Refuse() if event != "PostToolUseFailure":
            wrong = _wrong_refusal(answer.reason, answer.retry_after_s)
            return answer if wrong is None else HookError(f"it answered Refuse with {wrong}")
        case Rewrite() if event == "PreToolUse":
            made = _as_object(answer.arguments)
            return Rewrite(made) if made is not None else HookError(f"it answered Rewrite with {_NO_OBJECT}")
        case Replace() if event != "PreToolUse":
            made = _as_object(answer.result)
            return Replace(made) if made is not None else HookError(f"it answered Replace with {_NO_OBJECT}")
        case _:
            return HookError(f"it answered {type(answer).__name__}, which is no answer to {event}")


def _wrong_refusal(reason: object, retry_after_s: object) -> str | None:
    """Say what no header, no answer and no row could hold."""
    if not isinstance(reason, str) or any("\ud800" <= character <= "\udfff" for character in reason):
        return "a reason that is not text"
    if retry_after_s is not None and type(retry_after_s) is not int:
        return "a retry_after_s that is not a whole number"
    return None


def _as_object(value: object) -> dict[str, Any] | None:
    """Return a hook's value as it arrives at the other end of a wire, None if it is no JSON object."""
    if not isinstance(value, dict):
        return None
    try:
        return _copy(cast("dict[str, Any]", value)) if _is_finite(cast("object", value)) else None
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None


def _is_finite(value: object) -> bool:
    """Whether no number in it is NaN or infinite, which an encoder would silently make null."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_is_finite, cast("dict[object, object]", value).values()))
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_finite, cast("list[object]", value)))
    return True


def _copy(value: dict[str, Any]) -> dict[str, Any]:
    return msgspec.json.decode(msgspec.json.encode(value))


def _digest(value: object) -> str:
    try:
        return digest(value)
    except NotCanonicalError:
        return "none"


def _deed(answer: Answer | HookError) -> str:
    match answer:
        case None:
            return "allowed"
        case Refuse():
            return "refused"
        case Rewrite():
            return "rewrote"
        case Replace():
            return "replaced"
        case HookError():
            return "failed"


def _place(failure: BaseException) -> str:
    """Return file and line; never the message, which may quote what the hook was given."""
    frames = traceback.extract_tb(failure.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"
