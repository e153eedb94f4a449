"""The 2026-07-28 era through a real bridge in front of a real stdio process."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.fakes.bridge import (
    META,
    TINY,
    Bridge,
    message_of,
    messages_of,
    modern_request,
    rpc,
    running_bridge,
    wait_until,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    with running_bridge(tmp_path_factory.mktemp("bridge")) as bridge:
        yield bridge


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def lines(journal: Path) -> list[str]:
    return journal.read_text().split("\n") if journal.exists() else []


def test_a_call_is_answered_as_json_with_the_clients_own_id(shared: Bridge):
    response = shared.call("echo", {"text": "hello"}, request_id="my-id")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json()["id"] == "my-id"
    assert "mcp-session-id" not in response.headers


@pytest.mark.parametrize(
    "headers",
    [{}, {"x-postern-bridge": "wrong"}, {"x-postern-bridge": ""}, {"authorization": "Bearer a-token-for-tests"}],
)
def test_nothing_is_served_without_the_token(shared: Bridge, headers: dict[str, str]):
    with httpx2.Client() as stranger:
        for method in ("GET", "POST", "DELETE", "OPTIONS"):
            response = stranger.request(method, shared.url, headers=headers)
            assert response.status_code == 403
            assert response.json()["error"]["code"] == -31003
        assert stranger.get(shared.url.replace("/mcp", "/"), headers=headers).status_code == 403


def test_the_token_twice_is_refused(shared: Bridge):
    headers = [("x-postern-bridge", "a-token-for-tests"), ("x-postern-bridge", "a-token-for-tests")]
    with httpx2.Client() as stranger:
        assert stranger.post(shared.url, headers=headers, json={}).status_code == 403


def test_a_token_file_that_was_written_anew_is_read_anew(tmp_path: Path):
    with running_bridge(tmp_path) as bridge:
        assert bridge.call("echo").status_code == 200
        (tmp_path / "token").write_text("rotated")
        assert bridge.call("echo", headers={"x-postern-bridge": "rotated"}).status_code == 200
        assert bridge.call("echo").status_code == 403


@pytest.mark.parametrize("name", ["", "evil.example.com", "127.0.0.1.example.com", "127.0.0.1:1:2"])
def test_a_foreign_host_or_origin_is_refused(shared: Bridge, name: str):
    if name:
        assert shared.call("echo", headers={"host": name}).status_code == 421
    assert shared.call("echo", headers={"origin": f"http://{name}"}).status_code == 403
    assert shared.call("echo", headers={"origin": "http://localhost:8080"}).status_code == 200


def test_ids_and_progress_tokens_of_concurrent_clients_never_mix(shared: Bridge):
    """Every client uses the same id and the same token; every client gets its own answer and its own progress."""

    def call(number: int) -> list[dict[str, object]]:
        arguments = {"seconds": 0.05 * (number % 3), "text": str(number)}
        return messages_of(shared.call("sleep", arguments, request_id=1, meta={"progressToken": "same"}))

    with ThreadPoolExecutor(16) as pool:
        for number, messages in enumerate(pool.map(call, range(48))):
            *progress, last = messages
            assert [message["params"]["progressToken"] for message in progress] == ["same"]  # pyright: ignore[reportIndexIssue]
            assert last["id"] == 1
            assert f"slept {number}" in str(last)


def test_the_child_sees_numbers_of_the_bridge_only(shared: Bridge):
    seen = [shared.text("seen", request_id="x", meta={"progressToken": "secret-token"}) for _ in range(2)]
    assert len(set(seen)) == 2
    assert all("x" not in one and "secret" not in one for one in seen)


def test_a_first_notification_makes_the_answer_an_event_stream(shared: Bridge):
    response = shared.call("sleep", {"seconds": 0}, meta={"progressToken": 7})
    assert response.headers["content-type"] == "text/event-stream"
    assert [message.get("method") for message in messages_of(response)] == ["notifications/progress", None]


def test_a_log_message_goes_to_the_only_call_in_flight(shared: Bridge):
    messages = messages_of(shared.call("log", {"text": "mine"}))
    assert messages[0]["params"]["data"] == "mine"


def test_a_log_message_goes_to_nobody_when_two_calls_are_in_flight(tmp_path: Path, journal: Path):
    with running_bridge(tmp_path, (*TINY, "--journal", str(journal))) as bridge, ThreadPoolExecutor(2) as pool:
        slow = pool.submit(bridge.call, "sleep", {"seconds": 1})
        wait_until(lambda: any(line.startswith("start") for line in lines(journal)))
        assert [message.get("method") for message in messages_of(bridge.call("log", {"text": "whose?"}))] == [None]
        assert len(messages_of(slow.result())) == 1


def test_a_disconnect_cancels_the_call_at_the_server(tmp_path: Path, journal: Path):
    with running_bridge(tmp_path, (*TINY, "--journal", str(journal))) as bridge:
        body, headers = modern_request("tools/call", {"name": "sleep", "arguments": {"seconds": 20}})
        with pytest.raises(httpx2.ReadTimeout):
            bridge.http.post(bridge.url, json=body, headers=headers, timeout=0.5)
        wait_until(lambda: any(line.startswith("cancelled") for line in lines(journal)))
        assert not any(line.startswith("end") for line in lines(journal))
        assert bridge.call("echo").status_code == 200


def test_listen_streams_carry_the_clients_subscription_id(shared: Bridge):
    body, headers = modern_request(
        "subscriptions/listen", {"notifications": {"toolsListChanged": True}}, request_id="sub"
    )
    with shared.http.stream("POST", shared.url, json=body, headers=headers) as response:
        assert response.headers["content-type"] == "text/event-stream"
        received = (line for line in response.iter_lines() if line.startswith("data: "))
        assert "acknowledged" in next(received)
        changed = messages_of(shared.call("change"))
        assert [message.get("method") for message in changed] == [None], "a change is not for a call's stream"
        event = next(received)
        assert '"io.modelcontextprotocol/subscriptionId":"sub"' in event
        assert "list_changed" in event


@pytest.mark.parametrize(
    ("method", "code", "status"),
    [("no/such", -32601, 404), ("initialize", -32601, 404), ("server/discover", None, 200)],
)
def test_errors_of_the_server_have_their_http_status(shared: Bridge, method: str, code: int | None, status: int):
    response = shared.modern(method, request_id=9)
    assert response.status_code == status
    assert response.json()["id"] == 9
    assert response.json().get("error", {}).get("code") == code


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"mcp-method": "tools/list"}, -32020),
        ({"mcp-name": "other"}, -32020),
        ({"mcp-protocol-version": "2027-01-01"}, -32020),
        ({"mcp-name": "=?base64?broken?="}, -32020),
    ],
)
def test_headers_that_contradict_the_body_are_refused(shared: Bridge, headers: dict[str, str], code: int):
    response = shared.call("echo", headers=headers, request_id="h")
    assert (response.status_code, response.json()["error"]["code"], response.json()["id"]) == (400, code, "h")


def test_a_base64_name_header_is_the_name(shared: Bridge):
    assert shared.call("echo", headers={"mcp-name": "=?base64?ZWNobw==?="}).status_code == 200


def test_a_mirrored_argument_is_checked_against_its_header(shared: Bridge):
    right = shared.call("mirror", {"region": "eu"}, headers={"mcp-param-region": "eu"})
    assert right.status_code == 200
    assert shared.call("mirror", {}).status_code == 200
    for headers in ({}, {"mcp-param-region": "us"}, {"mcp-param-region": "=?base64?!!?="}):
        refused = shared.call("mirror", {"region": "eu"}, headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, -32020)
    assert shared.call("mirror", {}, headers={"mcp-param-region": "eu"}).status_code == 400


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[]", -32600),
        (b"{", -32700),
        (b'{"a": NaN}', -32700),
        (b"\xff\xfe", -32700),
        (b"[" * 100_000, -32600),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"tools/list"}', -32600),
        (b'{"jsonrpc":"2.0","id":null,"method":"tools/list"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":[]}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}', -32602),
    ],
)
def test_what_is_no_proper_request_is_refused_by_the_bridge(shared: Bridge, body: bytes, code: int):
    headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/list", "content-type": "application/json"}
    response = shared.http.post(shared.url, content=body, headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (400, code)


def test_a_body_above_the_cap_is_refused_before_it_is_parsed(tmp_path: Path):
    with running_bridge(tmp_path, TINY, "--max-frame-bytes", "10000") as bridge:
        assert bridge.call("echo", {"text": "x" * 20_000}).status_code == 413
        assert bridge.call("echo", {"text": "x"}).status_code == 200


def test_an_answer_above_the_cap_is_an_error_and_not_a_crash(tmp_path: Path):
    with running_bridge(tmp_path, TINY, "--max-frame-bytes", "100000") as bridge:
        before = bridge.text("echo")
        response = bridge.call("large", {"size": 500_000}, request_id="big")
        assert (response.status_code, response.json()["error"]["code"], response.json()["id"]) == (502, -31502, "big")
        assert len(bridge.text("large", {"size": 50_000})) == 50_000
        assert bridge.text("echo") == before, "the child lived on"


def test_noise_on_the_servers_output_is_logged_and_skipped(shared: Bridge):
    assert shared.text("garbage") == "after garbage"
    assert "Server ready!" not in shared.call("echo").text
    assert "not a frame" in shared.log.read_text()


def test_the_servers_log_is_passed_on_with_its_name(shared: Bridge):
    assert shared.call("echo").status_code == 200
    assert "[tiny/1] tiny is ready" in shared.log.read_text()


def test_integers_of_any_size_and_odd_text_survive(shared: Bridge):
    number = 12345678901234567890123456789
    text = shared.text("echo", {"text": f"{number} \u2028 é 😀"})
    assert text.startswith(f"{number} \u2028 é 😀")
    response = shared.modern("tools/call", {"name": "seen", "arguments": {"n": number}}, request_id=number)
    assert response.json()["id"] == number


def test_get_and_delete_are_not_of_this_era(shared: Bridge):
    for method in ("GET", "DELETE"):
        response = shared.http.request(method, shared.url, headers={"mcp-protocol-version": "2026-07-28"})
        assert (response.status_code, response.headers["allow"]) == (405, "POST")


def test_notifications_are_taken_and_go_nowhere(tmp_path: Path, journal: Path):
    with running_bridge(tmp_path, (*TINY, "--journal", str(journal))) as bridge:
        headers = {"mcp-protocol-version": "2026-07-28"}
        body = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
        assert bridge.http.post(bridge.url, json=body, headers=headers).status_code == 202
        assert bridge.call("echo").status_code == 200
        assert not any(line.startswith("cancelled") for line in lines(journal))


def test_accept_and_content_type_are_required(shared: Bridge):
    assert shared.call("echo", headers={"accept": "application/json"}).status_code == 406
    body, headers = modern_request("tools/list")
    refused = shared.http.post(shared.url, content=json.dumps(body), headers={**headers, "content-type": "text/plain"})
    assert refused.status_code == 415


def test_another_path_is_not_there(shared: Bridge):
    assert shared.http.post(shared.url + "/more", json={}).status_code == 404


def test_all_principals_share_one_child_unless_declared_otherwise(shared: Bridge):
    first = shared.text("echo", headers={"x-postern-principal": "a"})
    assert shared.text("echo", headers={"x-postern-principal": "b"}) == first


def test_each_principal_has_its_own_child_when_declared(tmp_path: Path):
    with running_bridge(tmp_path, TINY, "--modern-child", "per-principal", "--max-children", "2") as bridge:
        texts = {name: bridge.text("echo", headers={"x-postern-principal": name}) for name in ("a", "b")}
        assert texts["a"] != texts["b"]
        assert bridge.text("echo", headers={"x-postern-principal": "a"}) == texts["a"]
        full = bridge.call("echo", headers={"x-postern-principal": "c"})
        assert (full.status_code, full.json()["error"]["code"]) == (503, -31503)
        assert int(full.headers["retry-after"]) > 0
        assert bridge.call("echo").status_code == 400, "no principal, no child"


def test_a_legacy_server_tells_modern_clients_which_version_it_speaks(tmp_path: Path):
    with running_bridge(tmp_path, (*TINY, "--era", "legacy")) as bridge:
        response = bridge.call("echo", request_id=5)
        error = response.json()["error"]
        assert (response.status_code, error["code"], response.json()["id"]) == (400, -32022, 5)
        assert error["data"] == {"supported": ["2025-11-25"], "requested": "2026-07-28"}
        assert bridge.open_session().text("echo", {"text": "legacy works"}).startswith("legacy works")
        assert bridge.call("echo").status_code == 400
        wait_until(lambda: len(bridge.children()) == 1)


def test_a_server_that_is_silent_about_the_modern_era_is_a_legacy_server(tmp_path: Path):
    with running_bridge(tmp_path, (*TINY, "--era", "silent"), "--start-timeout-s", "1") as bridge:
        response = bridge.call("echo")
        assert (response.status_code, response.json()["error"]["code"]) == (400, -32022)
        assert bridge.open_session().call("echo").status_code == 200


def test_a_modern_server_refuses_the_handshake_in_its_own_words(tmp_path: Path):
    with running_bridge(tmp_path, (*TINY, "--era", "modern")) as bridge:
        assert bridge.call("echo").status_code == 200
        response = bridge.http.post(bridge.url, json=rpc("initialize", {"protocolVersion": "2025-11-25"}))
        assert response.json()["error"]["code"] == -32022
        assert "mcp-session-id" not in response.headers
        wait_until(lambda: len(bridge.children()) == 1)


def test_both_eras_run_side_by_side_on_one_address(shared: Bridge):
    session = shared.open_session()
    modern, legacy = shared.text("echo"), session.text("echo")
    assert modern != legacy
    assert message_of(session.call("echo"))["id"] == 1
    session.end()


def test_an_envelope_of_the_modern_era_without_its_header_is_refused(shared: Bridge):
    response = shared.http.post(shared.url, json=rpc("tools/list", {"_meta": META}, 3))
    assert (response.status_code, response.json()["error"]["code"], response.json()["id"]) == (400, -32020, 3)
