"""Streams while nothing can be recorded: what has begun may go on, no answer leaves without its row (promise 1)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.stateful import Stateful
from tests.fixtures_postgres import PrivatePostgres
from tests.sidecar import wait_for
from tests.streaming import Scene, document, external, leave_all


@pytest.fixture
def upstream() -> Iterator[Stateful]:
    with Stateful() as upstream:
        yield upstream
        leave_all()


@pytest.fixture
def scene(tmp_path: Path, private_postgres: PrivatePostgres, upstream: Stateful) -> Iterator[Scene]:
    scene = Scene(tmp_path / "scene", private_postgres, {"one": external(upstream)})
    try:
        scene.sidecar.start_proxy()
        yield scene
    finally:
        scene.sidecar.stop()


@pytest.mark.slow
def test_an_answer_that_cannot_be_recorded_is_withheld_and_its_client_told(scene, upstream, private_postgres) -> None:
    """The store goes away in the middle: keep-alives flowed, the answer does not; its row is written when it is back."""
    client = scene.client("one")
    posted = client.call("slow")
    posted.wait(lambda me: any(event.comment for event in me.events), "the stream is on")
    private_postgres.stop()
    refused = client.call("echo")
    assert (refused.status, document(refused)["error"]["data"]["code"]) == (503, "audit.unavailable")
    upstream.release.set()
    posted.wait_for_end(limit_s=40)
    (message,) = posted.messages
    assert "result" not in message
    assert (message["id"], message["error"]["data"]["code"]) == (2, "audit.unavailable")
    private_postgres.start()
    execution = posted.header("x-postern-execution-id")
    (row,) = wait_for(lambda: _rows(scene, execution), "the row is written when the store is back", limit_s=40)
    assert row["decision"] == "audit.unavailable"
    assert "success" in row["reason"], "what the server had answered"


@pytest.mark.slow
def test_an_answer_that_is_fetched_and_cannot_be_recorded_is_withheld_and_fetched_later(
    scene, upstream, private_postgres
) -> None:
    client = scene.client("one")
    posted = client.call("slow")
    posted.wait(lambda me: any(event.comment for event in me.events), "the stream is on")
    resumed = client.get(posted.last_id)
    assert resumed.status == 200
    posted.wait_for_end()
    private_postgres.stop()
    upstream.release.set()
    resumed.wait_for_end(limit_s=60)
    assert [m for m in resumed.messages if "result" in m] == []
    private_postgres.start()
    wait_for(lambda: client.call("echo").status == 200, "the store is back", limit_s=40)
    again = client.get(posted.last_id)
    assert again.wait_for_messages()[0]["result"]["content"][0]["text"] == "slow"


def _rows(scene: Scene, execution: str) -> list[dict[str, object]]:
    try:
        return scene.rows("execution_id = $1::text::uuid", execution)
    except OSError:
        return []
