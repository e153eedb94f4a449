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
    """Return the message without what the caller may not use or share, or None where nothing is to be changed.

    What was let through for one caller is `private` to it, a list or not: a cache must not serve it to the next.
    """
    result = message.get("result")
    if not isinstance(result, dict) or call.identity is None:
        return None
    found = cast("dict[str, Any]", result)
    listed = LISTS.get(call.method or "")
    changes = _private(call.era, found, is_list=listed is not None)
    if listed is not None and listed[0] in found:
        changes[listed[0]] = _shown(found[listed[0]], listed, policy, call.identity)
    return {**message, "result": {**found, **changes}} if changes else None


def _private(era: Era | None, found: dict[str, Any], *, is_list: bool) -> dict[str, Any]:
    is_shared = era is Era.MODERN and (is_list or "cacheScope" in found) and found.get("cacheScope") != "private"
    return {"cacheScope": "private"} if is_shared else {}


def _shown(items: object, listed: tuple[Kind, str], policy: Visibility, who: Identity) -> list[object]:
    """Return the items that the caller may use; none where the server has sent no list."""
    kind, named = listed
    known = cast("list[object]", items) if isinstance(items, list) else []
    return [item for item in known if _is_shown(item, named, policy, who, kind)]


def _is_shown(item: object, named: str, policy: Visibility, identity: Identity, kind: Kind) -> bool:
    name: object = cast("dict[str, Any]", item).get(named) if isinstance(item, dict) else None
    return isinstance(name, str) and policy.is_visible(identity, kind, name)
