"""Drift in words: what changed, was renamed, was swapped (SPEC C1)."""

import time
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.contracts.catalogue import Catalogue
from registry.contracts.definitions import Kind, pinned
from registry.contracts.drift import Drift, compare, compare_items
from registry.contracts.locked import ServerLock

Tools = dict[str, dict[str, Any]]


def tool(name: str, description: str, **properties: Any) -> dict[str, Any]:
    return {"name": name, "description": description, "inputSchema": {"type": "object", "properties": properties}}


def catalogue(tools: Tools, instructions: str | None = "Be kind", **kinds: Tools) -> Catalogue:
    items: dict[Any, Tools] = {"tools": tools, **kinds}
    return Catalogue(items, instructions)


@pytest.fixture
def tools() -> Tools:
    listed = (
        tool("read", "Read", id={"type": "integer"}),
        tool("delete", "Delete", id={"type": "integer"}),
        tool("x", "X"),
    )
    return {each["name"]: each for each in listed}


@pytest.fixture
def lock(tools) -> ServerLock:
    return ServerLock.of_catalogue(catalogue(deepcopy(tools)))


def said(lock: ServerLock, live: Catalogue) -> list[str]:
    return [str(drift) for drift in compare(lock, live)]


def test_nothing_drifts_where_nothing_changed(lock, tools) -> None:
    assert compare(lock, catalogue(tools)) == ()


def test_order_of_keys_and_of_items_is_no_change(lock, tools) -> None:
    turned = {name: dict(reversed(each.items())) for name, each in reversed(tools.items())}
    assert compare(lock, catalogue(turned)) == ()


def test_changed_member_is_named_with_its_place(lock, tools) -> None:
    tools["read"]["inputSchema"]["properties"]["path"] = {}
    tools["read"]["description"] = "Read it"
    assert said(lock, catalogue(tools)) == ["tool read changed: description changed, inputSchema/properties/path added"]


def test_true_in_place_of_one_is_a_change(tools) -> None:
    tools["x"]["inputSchema"]["properties"] = {"n": {"const": 1}}
    lock = ServerLock.of_catalogue(catalogue(deepcopy(tools)))
    tools["x"]["inputSchema"]["properties"]["n"]["const"] = True
    assert said(lock, catalogue(tools)) == ["tool x changed: inputSchema/properties/n/const changed"]


def test_rename_is_named(lock, tools) -> None:
    tools["fetch"] = {**tools.pop("read"), "name": "fetch"}
    (drift,) = compare(lock, catalogue(tools))
    assert (drift.change, drift.affected()) == ("renamed", ("read", "fetch"))
    assert str(drift) == "tool read is now called fetch"


def test_rename_that_also_changes_is_both(lock, tools) -> None:
    tools["fetch"] = {**tools.pop("read"), "name": "fetch", "description": "Send"}
    assert said(lock, catalogue(tools)) == ["tool read is now called fetch, and changed: description changed"]


def test_swap_is_named_on_both_sides(lock, tools) -> None:
    a, b = tools["read"], tools["delete"]
    tools["read"], tools["delete"] = {**b, "name": "read"}, {**a, "name": "delete"}
    assert said(lock, catalogue(tools)) == [
        "tool read now says what delete said: description",
        "tool delete now says what read said: description",
    ]


def test_three_tools_turned_in_a_ring_are_swapped_too(lock, tools) -> None:
    said_by = {name: each["description"] for name, each in tools.items()}
    for name, other in (("read", "delete"), ("delete", "x"), ("x", "read")):
        tools[name]["description"] = said_by[other]
    assert {drift.change for drift in compare(lock, catalogue(tools))} == {"swapped"}


def test_added_removed_and_duplicated(lock, tools) -> None:
    del tools["x"]
    tools["new"] = tool("new", "New")
    live = Catalogue({"tools": tools}, "Be kind", duplicates=("read",))
    assert said(lock, live) == ["tool x is gone", "tool new is not pinned", "tool read is listed more than once"]


@pytest.mark.parametrize(
    ("now", "expected"),
    [("Be cruel", "instructions changed: the text is another"), (None, "instructions are gone"), ("Be kind", None)],
)
def test_instructions_count(lock, tools, now, expected) -> None:
    assert said(lock, catalogue(tools, now)) == ([expected] if expected else [])


def test_page_of_a_list_says_nothing_about_what_it_does_not_show(lock, tools) -> None:
    page = {"read": tools["read"]}
    assert compare_items("tools", lock.of("tools"), page, is_whole=False) == ()
    renamed = {"fetch": {**tools["read"], "name": "fetch"}}
    (drift,) = compare_items("tools", lock.of("tools"), renamed, is_whole=False)
    assert str(drift) == "tool fetch is not pinned; it is what read was pinned as"


def test_names_that_would_act_on_a_terminal_are_shown_as_escapes() -> None:
    assert "\x1b" not in str(Drift("tools", "\x1b[2J", "added"))


@pytest.mark.parametrize(
    ("kind", "item", "kept"),
    [
        ("tools", {"name": "a", "execution": {}, "unknown": 1, "title": None}, {"name": "a"}),
        ("resources", {"uri": "a:b", "size": 3, "annotations": {"lastModified": "x"}}, {"uri": "a:b"}),
        ("resources", {"uri": "a:b", "annotations": {"lastModified": "x", "priority": 1}}, {"uri": "a:b", "annotations": {"priority": 1}}),
        ("tools", {"name": "a", "_meta": {"ui": 1}, "icons": []}, {"name": "a", "_meta": {"ui": 1}, "icons": []}),
    ],
)  # fmt: skip
def test_what_is_volatile_is_not_pinned(kind: Kind, item, kept) -> None:
    assert pinned(kind, item) == kept


@given(st.dictionaries(st.sampled_from("abcde"), st.sampled_from(["one", "two", "three"]), min_size=1), st.data())
def test_drift_is_empty_exactly_if_nothing_changed(descriptions, data) -> None:
    """Whatever is done to the tools: silence means sameness, and each new, lost or changed name is told."""
    before = {name: tool(name, text, n={"const": name}) for name, text in descriptions.items()}
    lock = ServerLock.of_catalogue(catalogue(before))
    after = data.draw(st.dictionaries(st.sampled_from("abcde"), st.sampled_from(["one", "two", "three"])))
    live = {name: tool(name, text, n={"const": name}) for name, text in after.items()}
    found = compare(lock, catalogue(live))
    touched = {name for name in {*before, *live} if before.get(name) != live.get(name)}
    assert {name for drift in found for name in drift.affected()} == touched


def test_thousands_of_strange_tools_are_compared_in_a_moment(tools) -> None:
    """A server cannot keep the proxy busy by changing or adding everything."""
    pins = {f"t{n}": tool(f"t{n}", f"Tool {n}", n={"const": n}) for n in range(300)}
    lock = ServerLock.of_catalogue(catalogue(pins))
    turned = {name: {**each, "description": f"{each['description']}!"} for name, each in pins.items()}
    strange = {f"s{n}": tool(f"s{n}", f"Strange {n}") for n in range(3_000)}
    began = time.monotonic()
    assert len(compare(lock, catalogue({**turned, **strange}))) == 3_300
    assert len(compare(lock, catalogue(strange))) == 3_300
    assert time.monotonic() - began < 4
