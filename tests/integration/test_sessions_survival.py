"""Sessions outlive the proxy, move between replicas, and are made again when the server has lost them (SPEC S3)."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import asyncpg
import pytest

from tests.fakes.stateful import Stateful
from tests.fixtures_postgres import Database
from tests.sidecar import wait_for
from tests.streaming import Legacy, Scene, Stream, document, external, leave_all


@pytest.fixture
def upstream() -> Iterator[Stateful]:
    with Stateful() as upstream:
        yield upstream
        leave_all()


@pytest.fixture
def scene(tmp_path: Path, database: Database, upstream: Stateful) -> Iterator[Scene]:
    servers = {"one": external(upstream), "fixed": external(upstream, sessions={"rebuild": False})}
    scene = Scene(tmp_path / "scene", database, servers)
    try:
        scene.sidecar.start_proxy()
        yield scene
    finally:
        scene.sidecar.stop()


def says(stream: Stream) -> str:
    return document(stream)["result"]["content"][0]["text"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_session_outlives_the_proxy(scene, upstream, number) -> None:
    client = scene.client("one")
    assert says(client.call("echo", n=1)) == '{"n": 1}'
    scene.sidecar.kill("proxy", number)
    scene.sidecar.start_proxy()
    assert says(client.call("echo", n=2)) == '{"n": 2}'
    assert len(upstream.requests("initialize")) == 1


def test_an_answer_outlives_the_proxy(scene, upstream) -> None:
    """Killed with a stream open: the client comes back with its event id and gets the answer from the next proxy."""
    client = scene.client("one")
    posted = client.call("slow")
    posted.wait(lambda me: any(event.comment for event in me.events), "the stream is on")
    scene.sidecar.kill("proxy", signal.SIGKILL)
    scene.sidecar.start_proxy()
    resumed = client.get(posted.last_id)
    assert resumed.status == 200
    upstream.release.set()
    assert resumed.wait_for_messages()[0]["result"]["content"][0]["text"] == "slow"
    rows = scene.rows("tool = 'slow'")
    assert {row["decision"] for row in rows} == {"proxy.interrupted", "stream.late_answer"}


def test_a_proxy_that_is_stopped_ends_standing_streams_at_once_and_lets_calls_finish(scene, upstream) -> None:
    client = scene.client("one")
    standing = client.get()
    assert standing.status == 200
    posted = client.call("slow")
    posted.wait(lambda me: any(event.comment for event in me.events), "the stream is on")
    process = scene.sidecar.processes["proxy"]
    process.send_signal(signal.SIGTERM)
    standing.wait_for_end()
    assert standing.events[-1].retry == "3000", "the client comes back when the next proxy is there"
    assert not posted.is_over
    upstream.release.set()
    assert posted.wait_for_messages()[0]["result"]
    assert process.wait(timeout=20) == 0
    assert scene.row(standing)["decision"] == "stream.draining"
    assert scene.row(posted)["status"] == "success"


def test_a_second_replica_goes_on_with_the_conversation(scene, upstream) -> None:
    replica = scene.start_replica()
    client = scene.client("one")
    other = client.at(replica)
    assert says(other.call("echo", n=1)) == '{"n": 1}'
    asked = client.call("ask")
    question = asked.wait_for_messages()[0]
    assert other.send({"jsonrpc": "2.0", "id": question["id"], "result": {}}).status == 202
    assert len(asked.wait_for_messages(2)) == 2
    assert len(upstream.requests("initialize")) == 1


def test_a_stream_is_handed_over_to_another_replica(scene, upstream) -> None:
    """The first replica still holds the connection to the server when the client resumes at the second."""
    replica = scene.start_replica()
    client = scene.client("one")
    posted = client.call("slow")
    posted.wait(lambda me: any(event.comment for event in me.events), "the stream is on")
    resumed = client.at(replica).get(posted.last_id)
    assert resumed.status == 200, document(resumed)
    upstream.release.set()
    assert resumed.wait_for_messages()[0]["result"]["content"][0]["text"] == "slow"
    assert scene.late_row(posted)["decision"] == "stream.moved"


@pytest.mark.parametrize("lost_status", [404, 400])
def test_a_lost_session_is_made_again_and_the_client_sees_nothing(scene, upstream, lost_status) -> None:
    """404 is the specification's, 400 with -32000 that of the first TypeScript servers."""
    upstream.lost_status = lost_status
    client = scene.client("one")
    before = client.session
    upstream.restart()
    answered = client.call("echo", n=1)
    assert says(answered) == '{"n": 1}'
    assert client.session == before
    assert len(upstream.requests("initialize")) == 2
    first, second = upstream.requests("initialize")
    assert first["params"] == second["params"]
    assert len(upstream.requests("notifications/initialized")) == 2
    assert "rebuilt" in scene.row(answered)["reason"]
    assert len(upstream.requests("tools/call")) == 2, "the refused one and the one that was answered"


def test_what_the_client_asked_for_is_asked_for_again(scene, upstream) -> None:
    """A logging level and subscriptions are part of the session; they must not be lost silently."""
    client = scene.client("one")
    assert document(client.ask("logging/setLevel", {"level": "debug"}))["result"] == {}
    upstream.restart()
    assert says(client.call("echo")) == "{}"
    assert [m["params"] for m in upstream.requests("logging/setLevel")] == [{"level": "debug"}] * 2


def test_what_the_lost_session_had_asked_is_not_answered_in_the_new_one(scene, upstream) -> None:
    """A restarted server may use the id for another question: an answer to the old one must not be taken for its."""
    client = scene.client("one")
    question = client.call("ask").wait_for_messages()[0]
    upstream.restart()
    assert says(client.call("echo")) == "{}"
    late = client.send({"jsonrpc": "2.0", "id": question["id"], "result": {}})
    assert (late.status, document(late)["error"]["data"]["code"]) == (400, "session.unasked")


def test_clients_that_race_into_a_lost_session_initialize_once(scene, upstream) -> None:
    replica = scene.start_replica()
    client = scene.client("one")
    upstream.restart()
    streams: list[Stream] = []
    barrier = threading.Barrier(8)

    def race(who: Legacy) -> None:
        barrier.wait()
        streams.append(who.call("echo", n=1))

    racers = [threading.Thread(target=race, args=(client.at(url),)) for url in (scene.sidecar.url, replica) * 4]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [says(stream) for stream in streams] == ['{"n": 1}'] * 8
    assert len(upstream.requests("initialize")) == 2
    assert scene.query("select generation from mcp_sessions where id = $1", client.session) == [{"generation": 1}]


def test_where_rebuilding_is_switched_off_the_client_is_told_cleanly(scene, upstream) -> None:
    client = scene.client("fixed")
    upstream.restart()
    lost = client.call("echo")
    assert lost.status == 404
    error = document(lost)["error"]
    assert (error["code"], error["data"]["code"]) == (-32001, "session.lost")
    row = scene.row(lost)
    assert (row["status"], row["decision"], row["http_status"]) == ("failed", "session.lost", 404)
    again = client.call("echo")
    assert document(again)["error"]["data"]["code"] == "session.unknown"
    assert client.initialize.__self__ is client
    client.session = None
    client.initialize()
    assert says(client.call("echo", n=3)) == '{"n": 3}'


@pytest.mark.parametrize("change", ["refuses", "other version"])
def test_a_server_that_does_not_take_the_session_back_is_told_as_a_loss(scene, upstream, change) -> None:
    client = scene.client("one")
    upstream.restart()
    if change == "refuses":
        upstream.refuses_initialize = True
    else:
        upstream.version = "2025-06-18"
    lost = client.call("echo")
    assert lost.status == 404
    assert document(lost)["error"]["data"]["code"] == "session.lost"
    assert scene.query("select status from mcp_sessions where id = $1", client.session) == [{"status": "lost"}]


def test_a_client_that_said_too_much_to_remember_is_told_of_the_loss(scene, upstream) -> None:
    client = Legacy(scene.sidecar, "one")
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x" * 70_000, "version": "1"}}
    opened = client.ask("initialize", params)
    client.session = opened.header("mcp-session-id")
    assert client.session, document(opened)
    upstream.restart()
    lost = client.call("echo")
    assert (lost.status, document(lost)["error"]["data"]["code"]) == (404, "session.lost")


def test_the_answer_of_a_restarted_server_is_not_waited_for_in_vain(scene, upstream) -> None:
    """Its events are gone, and their ids may name other events now: the client gets an error for its request."""
    client = scene.client("one")
    posted = client.call("poll")
    posted.wait_for_end()
    upstream.restart()
    resumed = client.get(posted.last_id)
    assert resumed.status == 200
    message = resumed.wait_for_messages()[0]
    assert message["id"] == 2
    assert message["error"]["data"]["code"] == "stream.lost"
    row = scene.late_row(resumed)
    assert (row["status"], row["decision"]) == ("failed", "stream.lost")
    assert all("last-event-id" not in headers for method, headers, _ in upstream.seen[-1:] if method == "GET")


def test_a_standing_stream_outlives_a_restart_of_the_server(scene, upstream) -> None:
    client = scene.client("one")
    standing = client.get()
    assert standing.status == 200
    wait_for(lambda: upstream.say({"jsonrpc": "2.0", "method": "notifications/one"}), "somebody listens")
    standing.wait_for_messages(1)
    upstream.restart()
    wait_for(lambda: upstream.say({"jsonrpc": "2.0", "method": "notifications/two"}), "somebody listens again")
    assert [message["method"] for message in standing.wait_for_messages(2)] == [
        "notifications/one",
        "notifications/two",
    ]
    assert not standing.is_over


def test_a_server_that_is_away_for_a_moment_is_waited_for_by_a_stream_and_not_by_a_call(scene, upstream) -> None:
    client = scene.client("one")
    upstream.stop()
    standing = client.get()
    refused = client.call("echo")
    assert refused.status == 503
    assert document(refused)["error"]["data"]["code"] == "upstream.unreachable"
    upstream.start()
    assert standing.status == 200


def test_a_call_that_outlives_the_drain_is_told_and_recorded(tmp_path, database, upstream) -> None:
    scene = Scene(tmp_path / "hasty", database, {"one": external(upstream)}, {"proxy": {"drain_s": 1.0}})
    try:
        scene.sidecar.start_proxy()
        client = scene.client("one")
        posted = client.call("slow")
        posted.wait(lambda me: any(event.comment for event in me.events), "the stream is on")
        scene.sidecar.kill("proxy", signal.SIGTERM)
        posted.wait_for_end()
        assert posted.messages[-1]["error"]["data"]["code"] == "proxy.drained"
        row = scene.row(posted)
        assert (row["status"], row["decision"]) == ("interrupted", "proxy.drained")
    finally:
        scene.sidecar.stop()


@pytest.mark.anyio
async def test_a_session_that_cannot_be_kept_is_not_given_out(scene, upstream, database) -> None:
    """The table is locked: a clear error, a row, and the server is told to drop what nobody will use."""
    holder = await asyncpg.connect(database.dsn())
    try:
        async with holder.transaction():
            await holder.execute("lock table mcp_sessions in access exclusive mode")
            client = Legacy(scene.sidecar, "one")
            params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}}
            refused = await anyio.to_thread.run_sync(lambda: client.ask("initialize", params))
            answer = await anyio.to_thread.run_sync(document, refused)
        assert (refused.status, answer["error"]["data"]["code"]) == (503, "session.store")
        assert refused.header("retry-after") == "1"
        assert refused.header("mcp-session-id") == ""
    finally:
        await holder.close()
    assert scene.row(refused)["status"] == "failed"
    wait_for(lambda: not upstream.sessions, "the server is told")
