"""Lists show a caller what that caller may use (SPEC I6). Order, cursors and schemas stay as the server sent them."""

from typing import Any, Protocol, cast

from proxy.auth.identity import Identity
from proxy.authorize.decision import Kind
from proxy.call import Call
from proxy.wire.era import Era

LISTS: dict[str, tuple[Kind, str]] = {
    "tools/list": ("tools", "name"),
    "prompts/list": ("prompts", "name"),
    "resources/list": ("resources", "uri"),
    "resources/templates/list": ("resourceTemplates", "uriTemplate"),
}


class Visibility(Protocol):
    """Says whether a caller may use one item; the same rule that decides calls."""

    def is_visible(self, identity: Identity, kind: Kind, name: str) -> bool: ...


def visible_only(call: Call, policy: Visibility, message: dict[str, object]) -> dict[str, object] | None:
    """Return the message without what the caller may not use, or None if the message is not a list's result."""
    listed = LISTS.get(call.method or "")
    result = message.get("result")
    if listed is None or not isinstance(result, dict) or call.identity is None:
        return None
    kind, named = listed
    found = cast("dict[str, Any]", result)
    items: object = found.get(kind)
    if not isinstance(items, list):
        return None
    who = call.identity
    shown = [item for item in cast("list[object]", items) if _is_shown(item, named, policy, who, kind)]
    private = {"cacheScope": "private"} if call.era is Era.MODERN else {}
    return {**message, "result": {**found, kind: shown, **private}}


def _is_shown(item: object, named: str, policy: Visibility, identity: Identity, kind: Kind) -> bool:
    name: object = cast("dict[str, Any]", item).get(named) if isinstance(item, dict) else None
    return isinstance(name, str) and policy.is_visible(identity, kind, name)
