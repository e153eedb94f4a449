"""Streams of the handshake era through a running proxy: what flows, what is recorded before it flows, what is refused."""

import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.stateful import Stateful
from tests.sidecar import wait_for
from tests.streaming import Legacy, Scene, document, external, leave_all


@pytest.fixture(scope="module")
def upstream() -> Iterator[Stateful]:
    with Stateful() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def streaming_upstream() -> Iterator[Stateful]:
    with Stateful("sse") as upstream:
        yield upstream


@pytest.fixture(scope="module")
def stateless_upstream() -> Iterator[Stateful]:
    with Stateful("stateless") as upstream:
        yield upstream


@pytest.fixture(scope="module")
def scene(tmp_path_factory, module_database, upstream, streaming_upstream, stateless_upstream) -> Iterator[Scene]:
    servers = {
        "one": external(upstream),
        "two": external(upstream),
        "sse": external(streaming_upstream),
        "none": external(stateless_upstream),
    }
    scene = Scene(tmp_path_factory.mktemp("streams"), module_database, servers)
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


def test_a_session_has_an_id_of_ours_and_the_server_sees_its_own(scene, upstream) -> None:
    client = scene.client("one")
    assert client.session not in upstream.sessions
    assert document(client.call("echo", text="hi"))["result"]["content"][0]["text"] == '{"text": "hi"}'
    assert upstream.seen[-1][1]["mcp-session-id"] in upstream.sessions
    row = scene.rows("session = $1 and method = 'initialize'", client.session)[0]
    assert (row["status"], row["protocol_version"]) == ("success", "2025-11-25")


def test_initialize_over_an_event_stream_opens_a_session_too(scene) -> None:
    """A priming event comes before the answer; the session's id is a header and must wait for it."""
    client = Legacy(scene.sidecar, "sse")
    opened = client.ask("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}})
    assert opened.header("mcp-session-id")
    assert document(opened)["result"]["protocolVersion"] == "2025-11-25"
    assert [event.data == "" for event in opened.events] == [True, False]
    assert opened.events[0].retry == "100"
    assert "prime-0" not in (opened.events[0].id or "prime-0")
    told = opened.events[-1].data.encode()
    assert scene.row(opened)["output_sha256"] == hashlib.sha256(told).digest(), "the event's id is not the server's"


def test_a_server_without_sessions_is_served_without(scene, stateless_upstream) -> None:
    """No session header in, none out; what it answers to a GET is its own business."""
    client = Legacy(scene.sidecar, "none").initialize()
    assert client.session is None
    assert document(client.call("echo", text="x"))["result"]["content"][0]["text"] == '{"text": "x"}'
    stream = client.get()
    assert (stream.status, stream.header("allow")) == (405, "POST")
    assert document(stream)["error"]["data"]["code"] == "upstream.http_error"
    assert scene.row(stream)["http_status"] == 405
    assert "mcp-session-id" not in stateless_upstream.seen[-1][1]


def test_a_polled_answer_is_fetched_by_get_and_has_its_row_first(scene) -> None:
    """The server closes the stream before the answer: the POST's row says that it moved, the answer has its own."""
    client = scene.client("one")
    posted = client.call("poll")
    posted.wait_for_end()
    assert posted.messages == []
    assert posted.events[0].retry == "100"
    moved = scene.row(posted)
    assert (moved["status"], moved["decision"], moved["tool"]) == ("interrupted", "stream.moved", "poll")
    assert moved["upstream_us"] is not None
    fetched = client.get(posted.last_id)
    answer = fetched.wait_for_messages()[0]
    assert answer["result"]["content"][0]["text"] == "poll"
    rows = scene.rows("session = $1 and decision = 'stream.late_answer'", client.session)
    assert len(rows) == 1, "the row is there before the answer is released"
    late = rows[0]
    assert (late["status"], late["method"], late["tool"], late["subject"]) == ("success", "tools/call", "poll", "ada")
    assert moved["execution_id"].hex in late["reason"].replace("-", "")
    assert late["output_sha256"] is not None
    fetched.wait_for_end()
    assert scene.late_row(fetched)["http_method"] == "GET"


def test_an_answer_can_be_fetched_again_and_has_another_row(scene) -> None:
    client = scene.client("one")
    posted = client.call("poll")
    posted.wait_for_end()
    for count in (1, 2):
        client.get(posted.last_id).wait_for_messages()
        rows = scene.rows("session = $1 and decision = 'stream.late_answer'", client.session)
        assert len(rows) == count


def test_a_list_that_comes_late_is_filtered_like_any_other(scene) -> None:
    client = scene.client("one")
    posted = client.ask("tools/list", {"cursor": "poll"})
    posted.wait_for_end()
    listed = client.get(posted.last_id).wait_for_messages()[0]
    assert "secret" not in [tool["name"] for tool in listed["result"]["tools"]]
    assert "poll" in [tool["name"] for tool in listed["result"]["tools"]]


def test_resuming_is_authorized_like_the_request_that_is_resumed(scene) -> None:
    """A token that may not call the tool does not get its answer either."""
    client = scene.client("one", scope="one:use more:secret")
    posted = client.call("secret")
    posted.wait(lambda me: me.events, "the stream is primed")
    client.token = scene.sidecar.token("one")
    refused = client.get(posted.last_id)
    assert refused.status == 403
    assert "more:secret" in refused.header("www-authenticate")
    assert scene.row(refused)["decision"] == "authz.scope"
    posted.leave()


@pytest.mark.parametrize("kind", ["raw", "other session", "other server", "tampered", "oversized", "not base64"])
def test_only_event_ids_that_the_session_was_sent_can_be_resumed(scene, upstream, kind) -> None:
    """The server's event ids are the same in every session, and it would answer to any of them."""
    client = scene.client("one")
    posted = client.call("poll")
    posted.wait_for_end()
    own = posted.last_id
    asked = {
        "raw": lambda: (client, "r2:0"),
        "other session": lambda: (scene.client("one", sub="eve"), own),
        "other server": lambda: (scene.client("two"), own),
        "tampered": lambda: (client, own[:-2] + ("AA" if own[-2:] != "AA" else "BB")),
        "oversized": lambda: (client, "A" * 4000),
        "not base64": lambda: (client, "../é".encode().decode("latin-1")),
    }[kind]
    who, event_id = asked()
    before = len(upstream.seen)
    refused = who.get(event_id)
    assert refused.status == 400
    assert document(refused)["error"]["data"]["code"] == "session.event"
    assert scene.row(refused)["status"] == "denied"
    assert len(upstream.seen) == before, "the server saw the request"


def test_keep_alives_and_progress_flow_at_once(scene, upstream) -> None:
    client = scene.client("one")
    posted = client.call("slow")
    posted.wait(lambda me: any(event.comment for event in me.events), "the keep-alive arrives")
    assert not posted.messages
    upstream.release.set()
    assert posted.wait_for_messages()[0]["result"]
    row = scene.row(posted)
    assert row["status"] == "success"
    assert row["events"] == 2


def test_a_legacy_client_that_leaves_cancels_nothing(scene, upstream) -> None:
    """The server goes on, and the row has the true outcome."""
    client = scene.client("one")
    posted = client.call("slow")
    posted.wait(lambda me: me.events, "the stream is primed")
    posted.leave()
    execution = posted.header("x-postern-execution-id")
    assert scene.rows("execution_id = $1::text::uuid", execution) == []
    upstream.release.set()
    row = scene.late_row(posted)
    assert (row["status"], row["tool"], row["http_status"]) == ("success", "slow", 200)


def test_a_stream_that_is_resumed_is_handed_over(scene, upstream) -> None:
    """The client lost its connection and comes back while the server still works: the old connection makes way."""
    client = scene.client("one")
    posted = client.call("slow")
    posted.wait(lambda me: any(event.comment for event in me.events), "the stream is on")
    resumed = client.get(posted.last_id)
    assert resumed.status == 200
    posted.wait_for_end()
    assert scene.late_row(posted)["decision"] == "stream.moved"
    upstream.release.set()
    assert resumed.wait_for_messages()[0]["result"]["content"][0]["text"] == "slow"
    assert len(scene.rows("session = $1 and decision = 'stream.late_answer'", client.session)) == 1


def test_a_stream_that_is_resumed_again_is_handed_over_again(scene, upstream) -> None:
    client = scene.client("one")
    posted = client.call("slow")
    posted.wait(lambda me: any(event.comment for event in me.events), "the stream is on")
    first = client.get(posted.last_id)
    assert first.status == 200
    second = client.get(posted.last_id)
    assert second.status == 200
    first.wait_for_end()
    row = scene.late_row(first)
    assert (row["status"], row["decision"]) == ("success", "stream.moved")
    upstream.release.set()
    assert second.wait_for_messages()[0]["result"]["content"][0]["text"] == "slow"


def test_a_request_that_the_client_cancels_ends_though_its_server_falls_silent(scene) -> None:
    client = scene.client("one")
    posted = client.call("mute")
    posted.wait(lambda me: me.events, "the stream is primed")
    told = client.tell("notifications/cancelled", {"requestId": 2})
    assert told.status == 202
    posted.wait_for_end()
    row = scene.late_row(posted)
    assert (row["status"], row["decision"]) == ("cancelled", "client.cancelled")


def test_the_servers_question_is_answered_once(scene, upstream) -> None:
    """Sampling: the question passes, its answer passes, and no second one."""
    client = scene.client("one")
    posted = client.call("ask")
    question = posted.wait_for_messages()[0]
    assert question["method"] == "sampling/createMessage"
    answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"role": "assistant", "content": {"type": "text"}}}
    said = client.send(answer)
    assert said.status == 202, document(said)
    text = posted.wait_for_messages(2)[1]["result"]["content"][0]["text"]
    assert json.loads(text) == answer
    assert scene.row(said)["http_status"] == 202
    again = client.send(answer)
    assert again.status == 400
    assert document(again)["error"]["data"]["code"] == "session.unasked"
    assert upstream.answers.count(answer) == 1


@pytest.mark.parametrize("kind", ["nobody asked", "other session", "no session", "other type of id"])
def test_a_response_that_nobody_asked_for_is_refused(scene, upstream, kind) -> None:
    client = scene.client("one")
    posted = client.call("ask")
    asked = posted.wait_for_messages()[0]["id"]
    who: Legacy = client
    answer: dict[str, Any] = {"jsonrpc": "2.0", "id": asked, "result": {}}
    if kind == "nobody asked":
        answer["id"] = "never-asked"
    elif kind == "other session":
        who = scene.client("one", sub="eve")
    elif kind == "no session":
        who = Legacy(scene.sidecar, "one")
    else:
        answer["id"] = 1
    before = len(upstream.answers)
    refused = who.send(answer)
    assert refused.status == 400
    assert document(refused)["error"]["data"]["code"] == "session.unasked"
    assert scene.row(refused)["decision"] == "session.unasked"
    assert len(upstream.answers) == before
    posted.leave()


def test_a_standing_stream_carries_what_the_server_says(scene, upstream) -> None:
    """The intent is there while the stream is open; its one row when it is closed."""
    client = scene.client("one")
    stream = client.get()
    assert stream.status == 200
    execution = stream.header("x-postern-execution-id")
    assert scene.query("select 1 from audit_intents where execution_id = $1::text::uuid", execution)
    assert scene.rows("execution_id = $1::text::uuid", execution) == []
    wait_for(lambda: upstream.say({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}), "somebody listens")
    assert stream.wait_for_messages()[0]["method"] == "notifications/tools/list_changed"
    stream.leave()
    row = scene.late_row(stream)
    assert (row["status"], row["decision"], row["events"]) == ("success", "client.left", 1)


def test_a_standing_stream_that_the_server_closes_is_closed_and_recorded(scene, upstream) -> None:
    client = scene.client("one")
    stream = client.get()
    assert stream.status == 200
    wait_for(lambda: any("standing" in lines for lines in upstream.sessions.values()), "the server has the stream")
    upstream.hang_up(
        scene.query("select upstream_id from mcp_sessions where id = $1", client.session)[0]["upstream_id"]
    )
    stream.wait_for_end()
    row = scene.late_row(stream)
    assert (row["status"], row["decision"], row["upstream_us"] is None) == ("success", "stream.ended", False)


def test_an_answer_on_a_standing_stream_is_not_passed_on(scene, upstream) -> None:
    """Nobody knows whose it is and what it may show: the stream ends, the client never sees it."""
    client = scene.client("one")
    stream = client.get()
    assert stream.status == 200
    wait_for(lambda: upstream.say({"jsonrpc": "2.0", "id": 2, "result": {"secret": 1}}), "somebody listens")
    stream.wait_for_end()
    assert stream.messages == []
    row = scene.late_row(stream)
    assert (row["status"], row["decision"]) == ("failed", "upstream.broken_answer")


def test_delete_ends_the_session_and_its_standing_stream(scene, upstream) -> None:
    client = scene.client("one")
    stream = client.get()
    assert stream.status == 200
    ended = client.delete()
    assert ended.status == 200
    stream.wait_for_end()
    gone = client.call("echo")
    assert gone.status == 404
    assert document(gone)["error"]["code"] == -32001
    assert scene.query("select status, upstream_id from mcp_sessions where id = $1", client.session) == [
        {"status": "closed", "upstream_id": None}
    ]


def test_an_expired_token_closes_the_stream(scene) -> None:
    """It is within the leeway for three seconds more."""
    client = Legacy(scene.sidecar, "one", scene.sidecar.token("one", exp=int(time.time()) + 600)).initialize()
    now = int(time.time())
    client.token = scene.sidecar.token("one", iat=now - 60, exp=now - 27)
    stream = client.get()
    assert stream.status == 200
    stream.wait_for_end()
    assert scene.late_row(stream)["decision"] == "stream.credential_expired"
