"""The handshake era through a real bridge: sessions, streams, resumption, questions of the server."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.fakes.bridge import (
    TINY,
    Bridge,
    is_alive,
    message_of,
    messages_of,
    parse_events,
    rpc,
    running_bridge,
    text_of,
    wait_until,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    with running_bridge(tmp_path_factory.mktemp("bridge"), TINY, "--events-after-s", "0.2") as bridge:
        yield bridge


def test_each_session_has_its_own_child_and_an_unguessable_id(shared: Bridge):
    sessions = [shared.open_session() for _ in range(3)]
    assert len({session.text("echo") for session in sessions}) == 3
    assert len({session.id for session in sessions}) == 3
    assert all(len(session.id) >= 32 and session.id.isascii() for session in sessions)
    for session in sessions:
        session.end()


def test_a_missing_session_is_400_and_an_unknown_one_404_with_a_json_rpc_body(shared: Bridge):
    missing = shared.http.post(shared.url, json=rpc("tools/list", {}, 4))
    assert (missing.status_code, missing.json()["id"]) == (400, 4)
    for method in ("POST", "GET", "DELETE"):
        body = rpc("tools/list", {}, 4) if method == "POST" else None
        unknown = shared.http.request(method, shared.url, json=body, headers={"mcp-session-id": "unknown"})
        assert unknown.status_code == 404
        assert unknown.json()["error"]["code"] == -32001


def test_delete_ends_the_session_and_its_child(shared: Bridge):
    session = shared.open_session()
    pid = int(session.text("echo").split()[-1])
    assert session.end().status_code == 200
    assert session.call("echo").status_code == 404
    assert session.end().status_code == 404
    wait_until(lambda: not is_alive(pid))


def test_a_session_is_nobody_elses(shared: Bridge):
    session = shared.open_session(**{"x-postern-principal": "alice"})
    assert session.call("echo").status_code == 200
    stranger = rpc("tools/call", {"name": "echo"})
    for principal in ({"x-postern-principal": "mallory"}, {}):
        headers = {"mcp-session-id": session.id, **principal}
        answers = [
            shared.http.post(shared.url, json=stranger, headers=headers),
            shared.http.get(shared.url, headers=headers),
            shared.http.delete(shared.url, headers=headers),
        ]
        unknown = shared.http.post(shared.url, json=stranger, headers={"mcp-session-id": "unknown"})
        assert [answer.status_code for answer in answers] == [404, 404, 404]
        assert answers[0].json() == unknown.json()
    assert session.call("echo").status_code == 200


def test_a_failed_initialize_leaves_no_session_and_no_child(tmp_path: Path):
    with running_bridge(tmp_path, (*TINY, "--era", "modern")) as bridge:
        response = bridge.http.post(bridge.url, json=rpc("initialize"))
        assert "error" in response.json()
        wait_until(lambda: not bridge.children())


def test_a_client_that_leaves_during_initialize_leaves_no_child(tmp_path: Path):
    with running_bridge(tmp_path, (*TINY, "--start-delay-s", "20")) as bridge:
        with pytest.raises(httpx2.ReadTimeout):
            bridge.http.post(bridge.url, json=rpc("initialize"), timeout=0.5)
        wait_until(lambda: not bridge.children())


def test_a_server_that_does_not_answer_initialize_is_ended_and_reported(tmp_path: Path):
    with running_bridge(tmp_path, (*TINY, "--start-delay-s", "20"), "--start-timeout-s", "0.5") as bridge:
        response = bridge.http.post(bridge.url, json=rpc("initialize", {}, 8))
        assert (response.status_code, response.json()["error"]["code"], response.json()["id"]) == (504, -31504, 8)
        wait_until(lambda: not bridge.children())


def test_the_same_id_twice_at_once_is_answered_twice(shared: Bridge):
    session = shared.open_session()

    def call(number: int) -> str:
        answer = session.call("sleep", {"seconds": 0.1, "text": str(number)}, request_id=1)
        return text_of(message_of(answer))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(call, range(16))) == [f"slept {number}" for number in range(16)]
    session.end()


def test_errors_of_the_server_are_answers_in_this_era(shared: Bridge):
    session = shared.open_session()
    response = session.send(rpc("no/such", {}, 3))
    assert (response.status_code, response.json()["error"]["code"]) == (200, -32601)
    session.end()


def test_a_slow_answer_becomes_a_primed_event_stream(shared: Bridge):
    session = shared.open_session()
    response = session.call("sleep", {"seconds": 0.5, "text": "slow"})
    prime, answer = list(parse_events(iter(response.text.split("\n"))))
    assert prime["data"] is None
    assert prime["id"] != answer["id"]
    assert "retry:" in response.text
    assert text_of(answer["data"]) == "slept slow"
    session.end()


def test_a_lost_connection_is_resumed_with_the_last_event_id(shared: Bridge):
    session = shared.open_session()
    body = rpc("tools/call", {"name": "sleep", "arguments": {"seconds": 1, "text": "survivor"}}, "lost")
    headers = {"mcp-session-id": session.id}
    with shared.http.stream("POST", shared.url, json=body, headers=headers) as response:
        prime = next(parse_events(response.iter_lines()))
    with session.events(**{"last-event-id": prime["id"]}) as events:
        received = [event for event in events if event["data"] is not None]
    assert [text_of(event["data"]) for event in received] == ["slept survivor"]
    assert received[0]["data"]["id"] == "lost"
    with session.events(**{"last-event-id": prime["id"]}) as again:
        assert [event["data"]["id"] for event in again if event["data"] is not None] == ["lost"]
    session.end()


def test_an_event_id_of_another_session_resumes_nothing(shared: Bridge):
    mine, theirs = shared.open_session(), shared.open_session()
    response = theirs.call("sleep", {"seconds": 0.4})
    event_id = next(parse_events(iter(response.text.split("\n"))))["id"]
    for bad in (event_id, "nonsense", "9" * 5000, "1-", "-1", "s-x"):
        refused = shared.http.get(
            shared.url, headers={"mcp-session-id": mine.id, "last-event-id": bad, "accept": "text/event-stream"}
        )
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, -32600)
    mine.end()
    theirs.end()


def test_a_question_of_the_server_goes_to_the_one_call_in_flight_and_its_answer_back(shared: Bridge):
    session = shared.open_session()
    body = rpc("tools/call", {"name": "ask", "arguments": {}}, 1)
    with shared.http.stream("POST", shared.url, json=body, headers={"mcp-session-id": session.id}) as response:
        events = (event["data"] for event in parse_events(response.iter_lines()) if event["data"])
        question = next(events)
        assert question["method"] == "sampling/createMessage"
        answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"said": "yes"}}
        assert session.send(answer).status_code == 202
        assert '"said": "yes"' in text_of(next(events))
    session.end()


def test_a_question_goes_to_the_standing_stream_when_several_calls_are_in_flight(tmp_path: Path):
    journal = tmp_path / "journal"
    with running_bridge(tmp_path, (*TINY, "--journal", str(journal))) as bridge, ThreadPoolExecutor(2) as pool:
        session = bridge.open_session()
        with session.events() as events:
            slow = pool.submit(session.call, "sleep", {"seconds": 3}, request_id=1)
            wait_until(lambda: journal.exists() and "start" in journal.read_text())
            asking = pool.submit(session.call, "ask", request_id=2)
            question = next(event["data"] for event in events if event["data"])
            assert question["method"] == "sampling/createMessage"
            assert session.send({"jsonrpc": "2.0", "id": question["id"], "result": {"said": "no"}}).status_code == 202
            assert len(messages_of(asking.result())) == 1
            assert '"said": "no"' in text_of(message_of(asking.result()))
            cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
            session.send(cancel)
            slow.result()


def test_an_answer_that_nobody_asked_for_does_not_reach_the_server(shared: Bridge):
    session = shared.open_session()
    assert session.send({"jsonrpc": "2.0", "id": "question-2", "result": {"forged": True}}).status_code == 202
    assert "forged" not in session.call("ask", {"seconds": 0.1}).text
    session.end()


def test_what_comes_without_a_call_waits_for_the_standing_stream(shared: Bridge):
    session = shared.open_session()
    assert len(messages_of(session.call("log", {"text": "with a call"}))) == 2
    with session.events() as events:
        changed = session.call("change")
        assert [message.get("method") for message in messages_of(changed)] == [None]
        assert next(event["data"]["method"] for event in events if event["data"]).endswith("list_changed")
    session.end()


def test_a_second_standing_stream_takes_over_from_the_first(shared: Bridge):
    session = shared.open_session()
    with session.events() as first, session.events() as second:
        next(first)
        assert [event for event in first if event["data"]] == []
        session.call("change")
        assert any(event["data"]["method"].endswith("list_changed") for event in second if event["data"])
    session.end()


def test_a_disconnect_does_not_cancel_in_this_era(tmp_path: Path):
    journal = tmp_path / "journal"
    with running_bridge(tmp_path, (*TINY, "--journal", str(journal))) as bridge:
        session = bridge.open_session()
        body = rpc("tools/call", {"name": "sleep", "arguments": {"seconds": 0.6, "text": "on"}})
        with pytest.raises(httpx2.ReadTimeout):
            bridge.http.post(bridge.url, json=body, headers={"mcp-session-id": session.id}, timeout=0.2)
        wait_until(lambda: "end on" in journal.read_text())
        assert "cancelled" not in journal.read_text()


def test_a_cancel_of_the_client_reaches_the_server_under_its_own_number(tmp_path: Path):
    journal = tmp_path / "journal"
    with running_bridge(tmp_path, (*TINY, "--journal", str(journal))) as bridge, ThreadPoolExecutor(1) as pool:
        session = bridge.open_session()
        slow = pool.submit(session.call, "sleep", {"seconds": 20}, request_id="mine")
        wait_until(lambda: journal.exists() and "start" in journal.read_text())
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "mine"}}
        assert session.send(cancel).status_code == 202
        assert message_of(slow.result())["error"]["code"] == -32800
        wait_until(lambda: "cancelled 2" in journal.read_text())


def test_a_batch_is_refused_in_every_era(shared: Bridge):
    session = shared.open_session()
    response = shared.http.post(shared.url, json=[rpc("ping")], headers={"mcp-session-id": session.id})
    assert (response.status_code, response.json()["error"]["code"]) == (400, -32600)
    session.end()


def test_other_methods_are_refused(shared: Bridge):
    assert shared.http.put(shared.url).status_code == 405
