"""Lists show a caller what that caller may use (SPEC I6). Order, cursors and schemas stay as the server sent them."""

from typing import Protocol

from proxy.auth.identity import Identity
from proxy.call import Call
from proxy.wire.era import Era

LISTS = {
    "tools/list": ("tools", "name"),
    "prompts/list": ("prompts", "name"),
    "resources/list": ("resources", "uri"),
    "resources/templates/list": ("resourceTemplates", "uriTemplate"),
}


class Visibility(Protocol):
    """Says whether a caller may use one item; the same rule that decides calls."""

    def is_visible(self, identity: Identity, kind: str, name: str) -> bool: ...


def visible_only(call: Call, policy: Visibility, message: dict[str, object]) -> dict[str, object] | None:
    """Return the message without what the caller may not use, or None if the message is not a list's result."""
    listed = LISTS.get(call.method or "")
    result = message.get("result")
    if listed is None or not isinstance(result, dict) or call.identity is None:
        return None
    key, named = listed
    items = result.get(key)
    if not isinstance(items, list):
        return None
    shown = [item for item in items if _is_shown(item, named, policy, call.identity, key)]
    private = {"cacheScope": "private"} if call.era is Era.MODERN else {}
    return {**message, "result": {**result, key: shown, **private}}


def _is_shown(item: object, named: str, policy: Visibility, identity: Identity, key: str) -> bool:
    name = item.get(named) if isinstance(item, dict) else None
    return isinstance(name, str) and policy.is_visible(identity, key, name)
