"""What is known to have drifted, as lists and looks come in (SPEC C1)."""

from copy import deepcopy
from time import perf_counter
from typing import Any

import pytest

from proxy.guard.contracts import Contracts
from proxy.guard.lists import judge_greeting, judge_list
from tests.unit.contracts.calls import READ, call, catalogue, lock_of, server

WRITE: dict[str, Any] = {"name": "write", "description": "Write", "inputSchema": {"type": "object"}}


def contracts(mode: str = "strict", **contract: Any) -> Contracts:
    return Contracts(server(contract={"drift": mode, **contract}), lock_of(READ, WRITE, instructions="Be kind"))


def listed(*tools: dict[str, Any], **more: Any) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": 7, "result": {"tools": list(tools), **more}}


def shown_by(message: dict[str, object]) -> list[Any]:
    result: Any = message["result"]
    return result["tools"]


def changed(tool: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {**deepcopy(tool), **members}


def test_list_that_is_as_pinned_passes_untouched_and_fast() -> None:
    state, page = contracts(), listed(READ, WRITE)
    assert judge_list(state, call("tools/list"), page).message is None
    began = perf_counter()
    for _ in range(100):
        judge_list(state, call("tools/list"), page)
    assert (perf_counter() - began) / 100 < 0.002


def test_strict_takes_out_and_keeps_order_cursor_and_schemas() -> None:
    page = listed(changed(READ, description="Obey"), WRITE, nextCursor="2", ttlMs=5)
    guarded = judge_list(contracts(), call("tools/list"), page)
    assert guarded.message is not None
    assert guarded.message["result"] == {"tools": [WRITE], "nextCursor": "2", "ttlMs": 5}
    assert guarded.finding is not None
    assert guarded.finding.code == "contract.drift"


def test_warn_tells_and_takes_nothing_out() -> None:
    state = contracts("warn")
    guarded = judge_list(state, call("tools/list"), listed(changed(READ, description="Obey"), WRITE))
    assert guarded.message is None
    assert guarded.finding is not None
    assert list(state.findings()) == [("tools", "read")]


def test_page_does_not_make_the_rest_disappear() -> None:
    state = contracts()
    judge_list(state, call("tools/list"), listed(READ, nextCursor="2"))
    judge_list(state, call("tools/list", cursor="2"), listed(WRITE))
    assert state.findings() == {}
    judge_list(state, call("tools/list"), listed(READ))
    assert list(state.findings()) == [("tools", "write")]


def test_finding_ends_when_the_tool_is_as_pinned_again() -> None:
    state = contracts()
    told: list[int] = []
    state.on_change = lambda: told.append(len(state.findings()))
    for _ in range(3):
        judge_list(state, call("tools/list"), listed(changed(READ, title="x"), WRITE, nextCursor="2"))
    judge_list(state, call("tools/list"), listed(READ, nextCursor="2"))
    assert told == [1, 0]


def test_tool_listed_twice_is_withheld_altogether() -> None:
    guarded = judge_list(contracts(), call("tools/list"), listed(READ, WRITE, changed(READ, description="Obey")))
    assert guarded.message is not None
    assert guarded.message["result"] == {"tools": [WRITE]}


@pytest.mark.parametrize(
    "item", [7, None, {}, {"name": 7}, {"name": ["x"]}, {"name": "\ud800"}, {"name": "x", "inputSchema": float("inf")}]
)
def test_items_that_are_none_are_no_trouble(item) -> None:
    """Nor beside what is withheld; the filter behind the guard shows no caller what has no name."""
    judge_list(contracts(), call("tools/list"), listed(READ, WRITE, item))
    guarded = judge_list(contracts(), call("tools/list"), listed(changed(READ, description="Obey"), item, WRITE))
    assert guarded.message is not None
    assert READ["name"] not in [each["name"] for each in shown_by(guarded.message) if isinstance(each, dict) and each]


def test_item_that_cannot_be_compared_is_not_as_pinned() -> None:
    state = contracts()
    state.learn_page("tools", [changed(READ, inputSchema={"const": float("nan")})], is_whole=False)
    assert state.why_withheld("tools", "read") is not None


def test_look_replaces_what_lists_have_shown() -> None:
    state = contracts()
    judge_list(state, call("tools/list"), listed(changed(READ, title="x"), WRITE))
    assert state.learn(state.compare(catalogue(READ, WRITE, instructions="Be kind")), state.revision)
    assert state.findings() == {}
    assert state.is_verified


@pytest.mark.parametrize(
    ("mode", "text", "shown"),
    [
        ("strict", "Be cruel", None),
        ("warn", "Be cruel", "Be cruel"),
        ("strict", "Be kind", "Be kind"),
        ("skip", "x", "x"),
    ],
)
def test_instructions_are_withheld_like_tools(mode, text, shown) -> None:
    message: dict[str, object] = {"id": 1, "result": {"instructions": text, "capabilities": {}}}
    guarded = judge_greeting(contracts(mode), message)
    result: Any = (guarded.message or message)["result"]
    assert result.get("instructions") == shown


def test_resources_may_be_left_alone_where_tools_are_strict() -> None:
    state = contracts(resources="skip")
    page: dict[str, object] = {"id": 1, "result": {"resources": [{"uri": "a://new", "name": "n"}]}}
    assert judge_list(state, call("resources/list"), page).message is None
    assert judge_list(contracts(), call("resources/list"), page).message is not None
