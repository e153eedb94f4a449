"""Contracts and hooks hold on streams, too: the last event of one, and an answer that is fetched later (SPEC C2, C5)."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.stateful import Stateful
from tests.streaming import Scene, document, external, leave_all

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}
TOOLS: dict[str, Any] = {"poll": {"output_schema": SCHEMA}, "slow": {"output_schema": SCHEMA}, "*": {}}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Stateful]:
    with Stateful() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def scene(tmp_path_factory, module_database, upstream) -> Iterator[Scene]:
    hooks = [{"name": "mine", "event": "PostToolUse", "python": "tests.fakes.hooks:replace", "servers": ["hooked"]}]
    servers = {"one": {**external(upstream), "tools": TOOLS}, "hooked": {**external(upstream), "tools": {"*": {}}}}
    scene = Scene(tmp_path_factory.mktemp("streams"), module_database, servers)
    scene.sidecar.registry["hooks"] = hooks
    scene.sidecar.write_registry()
    try:
        scene.sidecar.start_proxy()
        yield scene
    finally:
        scene.sidecar.stop()


@pytest.fixture(autouse=True)
def fresh(upstream: Stateful) -> Iterator[None]:
    upstream.release.clear()
    yield
    upstream.release.set()
    leave_all()


def test_answer_that_comes_late_is_held_against_its_contract(scene) -> None:
    """The answer is fetched by resuming the stream: it is withheld there as it would have been at once."""
    client = scene.client("one")
    posted = client.call("poll")
    posted.wait_for_end()
    result = client.get(posted.last_id).wait_for_messages()[0]["result"]
    assert result["isError"] is True
    assert "/structuredContent: is missing" in result["content"][0]["text"]
    row = scene.rows("session = $1 and decision = 'stream.late_answer'", client.session)[0]
    assert row["status"] == "failed"
    assert row["error"].startswith("contract.output: /structuredContent")
    assert len(row["output_sha256"]) == 32


def test_last_event_of_a_stream_is_held_against_its_contract(scene, upstream) -> None:
    client = scene.client("one")
    posted = client.call("slow")
    posted.wait(lambda me: me.events, "the stream is on")
    upstream.release.set()
    posted.wait_for_end()
    result = posted.messages[-1]["result"]
    assert result["isError"] is True
    row = scene.row(posted)
    assert (row["status"], row["decision"]) == ("failed", "contract.output")


def test_hook_sees_answers_that_come_late(scene) -> None:
    client = scene.client("hooked")
    posted = client.call("poll")
    posted.wait_for_end()
    result = client.get(posted.last_id).wait_for_messages()[0]["result"]
    assert result["structuredContent"] == {"id": 1, "text": "[hidden]"}
    row = scene.rows("session = $1 and decision = 'stream.late_answer'", client.session)[0]
    assert json.loads(row["hooks"])[0]["did"] == "replaced"


def test_hook_sees_answers_that_come_at_once(scene) -> None:
    client = scene.client("hooked")
    assert document(client.call("echo", text="x"))["result"]["structuredContent"]["text"] == "[hidden]"
