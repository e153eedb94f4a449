"""Where task ids stand in messages of either era; whatever a server or a client writes there, nothing raises."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.tasks.wire import (
    EXTENSION,
    RELATED_KEY,
    created_in,
    last_word,
    lifetime_of,
    listened_in,
    names_tasks,
    related_to,
    takes_tasks,
    with_listened,
    with_related,
)
from proxy.wire.era import CAPABILITIES_KEY, Era
from proxy.wire.jsonrpc import Envelope, EnvelopeKind

ABOUT = {"_meta": {RELATED_KEY: {"taskId": "t"}, "kept": 1}, "kept": 2}
KEYS = st.sampled_from(
    ["_meta", RELATED_KEY, "taskId", "task", "resultType", "notifications", "taskIds", "result", "ttl"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["task", "t", "complete", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("result", "era", "found"),
    [
        ({"resultType": "task", "taskId": "t", "status": "working"}, Era.MODERN, "t"),
        ({"resultType": "complete", "taskId": "t"}, Era.MODERN, None),
        ({"resultType": "task", "taskId": 7}, Era.MODERN, None),
        ({"task": {"taskId": "t"}}, Era.MODERN, None),
        ({"task": {"taskId": "t"}}, Era.LEGACY, "t"),
        ({"task": {"taskId": "t"}, "content": []}, Era.LEGACY, None),
        ({"resultType": "task", "taskId": "t"}, Era.LEGACY, None),
        ({"content": []}, Era.LEGACY, None),
    ],
)
def test_a_call_that_became_a_task_is_told_from_one_that_was_answered(result: Any, era: Era, found: str | None) -> None:
    created = created_in(result, era)
    assert (created["taskId"] if created is not None else None) == found


@pytest.mark.parametrize(
    ("task", "seconds"),
    [
        ({"ttl": 1500}, 1.5),
        ({"ttlMs": 0}, 0),
        ({"ttlMs": None}, None),
        ({}, None),
        ({"ttl": -1}, None),
        ({"ttl": True}, None),
    ],
)
def test_a_lifetime_is_read_in_either_spelling(task: Any, seconds: float | None) -> None:
    assert lifetime_of(task) == seconds


@pytest.mark.parametrize(
    ("capabilities", "takes"),
    [
        ({"extensions": {EXTENSION: {}}}, True),
        ({"extensions": {EXTENSION: True}}, False),
        ({"extensions": []}, False),
        ({}, False),
    ],
)
def test_a_client_takes_tasks_if_it_says_so_in_the_request(capabilities: Any, takes: bool) -> None:
    params = {"_meta": {CAPABILITIES_KEY: capabilities}}
    assert takes_tasks(Envelope(EnvelopeKind.REQUEST, 1, "tools/call", params, {})) is takes


def test_a_message_is_made_to_be_about_another_task_or_none() -> None:
    assert related_to(with_related(ABOUT, "other")) == "other"
    assert with_related(ABOUT, None) == {"_meta": {"kept": 1}, "kept": 2}
    assert related_to(ABOUT) == "t", "the message itself is as it was"
    assert with_listened({"notifications": {"taskIds": ["a"], "kept": 1}}, ["b"]) == {
        "notifications": {"taskIds": ["b"], "kept": 1}
    }


def test_what_a_task_has_come_to_is_read_like_the_answer_to_its_call() -> None:
    ended: dict[str, object] = {
        "jsonrpc": "2.0",
        "id": 7,
        "result": {"taskId": "t", "status": "completed", "result": {"isError": True}},
    }
    failed: dict[str, object] = {
        "jsonrpc": "2.0",
        "id": 7,
        "result": {"taskId": "t", "status": "failed", "error": {"code": -1}},
    }
    assert last_word("tasks/get", ended) == {"jsonrpc": "2.0", "id": 7, "result": {"isError": True}}
    assert last_word("tasks/get", failed) == {"jsonrpc": "2.0", "id": 7, "error": {"code": -1}}
    assert last_word("tools/call", ended) is ended


@given(JSON, st.sampled_from(list(Era)))
def test_no_shape_of_a_message_raises(found: Any, era: Era) -> None:
    message = found if isinstance(found, dict) else {}
    related_to(found)
    listened_in(found)
    lifetime_of(message)
    names_tasks({"method": "notifications/subscriptions/acknowledged", "params": found})
    last_word("tasks/get", {"result": found})
    created = created_in(message, era)
    assert created is None or isinstance(created["taskId"], str)
    assert related_to(with_related(message, "t")) == "t"
