"""Lists and greetings on their way to a caller: what is not as pinned is taken out, or told."""

from collections.abc import Mapping
from typing import Any, cast

from proxy.call import Call
from proxy.guard.contracts import Contracts
from proxy.guard.outcome import PASSED, Finding, Guarded
from registry.contracts.definitions import Kind, name_of

LISTS: Mapping[str, tuple[Kind, str]] = {
    "tools/list": ("tools", "tools"),
    "prompts/list": ("prompts", "prompts"),
    "resources/list": ("resources", "resources"),
    "resources/templates/list": ("templates", "resourceTemplates"),
}
GREETINGS = frozenset({"initialize", "server/discover"})
_NAMED = 20


def judge_list(contracts: Contracts, call: Call, message: dict[str, object]) -> Guarded:
    """Compare a page of a list with the lock."""
    kind, member = LISTS[call.method or ""]
    result = _result(message)
    items: object = result.get(member)
    if contracts.mode(kind) == "skip" or not isinstance(items, list):
        return PASSED
    listed = cast("list[object]", items)
    params = (call.envelope.params if call.envelope is not None else None) or {}
    is_whole = not params.get("cursor") and not result.get("nextCursor")
    drift, withheld = contracts.learn_page(kind, listed, is_whole=is_whole)
    if not drift and not withheld:
        return PASSED
    told = "; ".join([str(each) for each in drift][:_NAMED]) or "the server is not locked"
    if not withheld:
        return Guarded(None, Finding("contract.drift", told))
    shown = [item for item in listed if name_of(kind, item) not in withheld]
    return Guarded({**message, "result": {**result, member: shown}}, Finding("contract.drift", f"withheld: {told}"))


def judge_greeting(contracts: Contracts, message: dict[str, object]) -> Guarded:
    """Compare the instructions that an initialize or discover brings."""
    result = _result(message)
    if contracts.mode("instructions") == "skip" or not result:
        return PASSED
    text: object = result.get("instructions")
    drift, is_withheld = contracts.learn_instructions(text if isinstance(text, str) else None)
    if drift is None:
        return PASSED
    if not is_withheld or text is None:
        return Guarded(None, Finding("contract.drift", drift))
    shown = {key: value for key, value in result.items() if key != "instructions"}
    return Guarded({**message, "result": shown}, Finding("contract.drift", f"withheld: {drift}"))


def _result(message: dict[str, object]) -> dict[str, Any]:
    result = message.get("result")
    return cast("dict[str, Any]", result) if isinstance(result, dict) else {}
