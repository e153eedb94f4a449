"""What of a server's answer a caller is shown, and what of it may be kept for others."""

from typing import Any

import pytest

from proxy.auth.identity import Anonymous, Identity
from proxy.authorize.decision import Kind
from proxy.call import Call
from proxy.execution.listing import LISTS, visible_only
from proxy.wire.era import Era


class Some:
    """Lets whatever begins with `x` be seen."""

    def is_visible(self, identity: Identity, kind: Kind, name: str) -> bool:
        return name.startswith("x")


def _call(method: str, era: Era = Era.MODERN) -> Call:
    call = Call.arrive("a", "POST", (), "127.0.0.1")
    call.method, call.era, call.identity = method, era, Anonymous()
    return call


def _result(call: Call, result: dict[str, Any]) -> Any:
    """The result that the caller gets."""
    message: dict[str, object] = {"jsonrpc": "2.0", "id": 1, "result": result}
    changed = visible_only(call, Some(), message)
    return (message if changed is None else changed)["result"]


@pytest.mark.parametrize("method", LISTS)
def test_lists_keep_order_cursor_and_what_the_caller_may_use(method: str) -> None:
    kind, named = LISTS[method]
    items = [{named: "x2", "more": 1}, {named: "y"}, {named: 7}, {}, "x", {named: "x1"}]
    shown = _result(_call(method), {kind: items, "nextCursor": "c", "ttlMs": 1, "cacheScope": "public"})
    assert shown == {kind: [items[0], items[5]], "nextCursor": "c", "ttlMs": 1, "cacheScope": "private"}
    assert _result(_call(method, Era.LEGACY), {kind: items}) == {kind: [items[0], items[5]]}


@pytest.mark.parametrize("items", [{"x": {"name": "secret"}}, "secret", None, 7])
def test_what_should_be_a_list_and_is_none_shows_nothing(items: object) -> None:
    """A lenient client could read it all the same."""
    assert _result(_call("tools/list"), {"tools": items}) == {"tools": [], "cacheScope": "private"}


@pytest.mark.parametrize("method", ["resources/read", "server/discover", "tools/call"])
def test_what_one_caller_may_read_is_kept_for_nobody_else(method: str) -> None:
    """The server cannot know that another caller may not read it."""
    assert _result(_call(method), {"contents": [], "cacheScope": "public"})["cacheScope"] == "private"
    for kept in ({"contents": []}, {"contents": [], "cacheScope": "private"}):
        assert visible_only(_call(method), Some(), {"result": kept}) is None
    assert visible_only(_call(method, Era.LEGACY), Some(), {"result": {"cacheScope": "public"}}) is None


def test_errors_pass_as_they_are() -> None:
    assert visible_only(_call("tools/list"), Some(), {"error": {"code": 1, "message": "no"}}) is None
