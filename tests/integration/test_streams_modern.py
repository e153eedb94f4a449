"""Streams of the 2026-07-28 protocol through a running proxy, in front of a server on the official SDK."""

import hashlib
import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ports import free_port
from tests.sidecar import META, MODERN, listens, wait_for
from tests.streaming import Scene, Stream, document, leave_all

SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"


@pytest.fixture(scope="module")
def journal(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("journal") / "journal"


@pytest.fixture(scope="module")
def scene(tmp_path_factory, module_database, journal) -> Iterator[Scene]:
    ports = {"everything": free_port(), "slow": free_port()}
    servers: dict[str, dict[str, Any]] = {
        name: {
            "type": "external",
            "endpoint": f"http://127.0.0.1:{port}/mcp",
            "tools": {"*": {}},
            "prompts": {"*": {}},
            "resources": {"*": {}},
        }
        for name, port in ports.items()
    }
    scene = Scene(tmp_path_factory.mktemp("modern"), module_database, servers)
    try:
        for name, port in ports.items():
            argv = [sys.executable, "-m", f"tests.fakes.{name}", "--port", str(port)]
            scene.sidecar.start(name, [*argv, "--journal", str(journal)] if name == "slow" else argv)
        for port in ports.values():
            wait_for(lambda port=port: listens(port), "the server listens")
        scene.sidecar.start_proxy()
        yield scene
    finally:
        scene.sidecar.stop()


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    yield
    leave_all()


def ask(
    scene: Scene, method: str, params: dict[str, Any], server: str = "everything", rpc_id: int | str = 1, **claims: Any
) -> Stream:
    meta = {**META, **params.pop("_meta", {})}
    message = {"jsonrpc": "2.0", "id": rpc_id, "method": method, "params": {**params, "_meta": meta}}
    headers = {
        "authorization": f"Bearer {scene.sidecar.token(server, **claims)}",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": MODERN,
        "mcp-method": method,
    }
    if "name" in params:
        headers["mcp-name"] = params["name"]
    return Stream(f"{scene.sidecar.url}/{server}/mcp", "POST", headers, json.dumps(message).encode())


def listen(scene: Scene, rpc_id: int | str = "sub", **claims: Any) -> Stream:
    return ask(scene, "subscriptions/listen", {"notifications": {"toolsListChanged": True}}, rpc_id=rpc_id, **claims)


def test_progress_flows_before_the_result_and_the_row_is_there_before_it_too(scene) -> None:
    answered = ask(scene, "tools/call", {"name": "test_tool_with_progress", "_meta": {"progressToken": "p"}})
    answered.wait_for_end()
    assert [m.get("method") for m in answered.messages] == ["notifications/progress"] * 3 + [None]
    row = scene.row(answered)
    assert (row["status"], row["events"], row["protocol_version"]) == ("success", 4, MODERN)
    told = answered.events[-1].data.encode()
    assert (row["output_bytes"], row["output_sha256"]) == (len(told), hashlib.sha256(told).digest())


def test_a_client_that_leaves_cancels_the_call(scene, journal) -> None:
    """The server stops working long before it would be done, and the row says who ended it."""
    params = {"name": "slow", "arguments": {"seconds": 30, "tag": "left"}, "_meta": {"progressToken": "p"}}
    answered = ask(scene, "tools/call", params, "slow")
    answered.wait_for_messages(1)
    answered.leave()
    wait_for(lambda: "end left" in journal.read_text(), "the server stops", limit_s=10)
    row = scene.late_row(answered)
    assert (row["status"], row["decision"], row["tool"]) == ("cancelled", "client.left", "slow")


def test_a_client_that_leaves_before_anything_was_said_cancels_the_call_too(scene, journal) -> None:
    answered = ask(scene, "tools/call", {"name": "slow", "arguments": {"seconds": 30, "tag": "mute"}}, "slow")
    wait_for(lambda: journal.exists() and "start mute" in journal.read_text(), "the call arrives")
    answered.leave()
    wait_for(lambda: "end mute" in journal.read_text(), "the server stops", limit_s=10)
    assert wait_for(lambda: scene.rows("tool = 'slow' and status = 'cancelled'"), "the row is written")


def test_a_subscription_is_acknowledged_tagged_and_recorded_when_it_ends(scene) -> None:
    """The intent is durable before its first byte; the one row comes when it closes."""
    subscribed = listen(scene)
    acknowledged = subscribed.wait_for_messages(1)[0]
    assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
    assert acknowledged["params"]["_meta"][SUBSCRIPTION] == "sub"
    execution = subscribed.header("x-postern-execution-id")
    intents = scene.query("select method from audit_intents where execution_id = $1::text::uuid", execution)
    assert [intent["method"] for intent in intents] == ["subscriptions/listen"]
    assert scene.rows("execution_id = $1::text::uuid", execution) == []
    ask(scene, "tools/call", {"name": "test_trigger_tool_change"}).wait_for_end()
    changed = subscribed.wait_for_messages(2)[1]
    assert changed["method"] == "notifications/tools/list_changed"
    assert changed["params"]["_meta"][SUBSCRIPTION] == "sub"
    subscribed.leave()
    row = scene.late_row(subscribed)
    assert (row["status"], row["decision"], row["events"]) == ("success", "client.left", 2)


def test_a_subscription_ends_with_its_credential(scene) -> None:
    now = int(time.time())
    subscribed = listen(scene, iat=now - 60, exp=now - 27)
    subscribed.wait_for_messages(1)
    subscribed.wait_for_end()
    assert scene.late_row(subscribed)["decision"] == "stream.credential_expired"


def test_a_subscription_ends_when_a_reload_takes_the_ground_from_it(scene) -> None:
    """First the agent loses the server, and nobody else notices; then everybody's key is another one."""
    sidecar, agents = scene.sidecar, {"former": {"subjects": ["bot"], "servers": {}}}
    registry, key = sidecar.file.read_text(), sidecar.state / "keys" / "everything.key"
    known = key.read_text()
    agent, person = listen(scene, sub="bot"), listen(scene)
    for subscribed in (agent, person):
        subscribed.wait_for_messages(1)
    try:
        sidecar.file.write_text(yaml.safe_dump(yaml.safe_load(registry) | {"agents": agents}))
        sidecar.processes["proxy"].send_signal(signal.SIGHUP)
        agent.wait_for_end()
        assert scene.late_row(agent)["decision"] == "stream.credential_withdrawn"
        ask(scene, "tools/call", {"name": "test_trigger_tool_change"}).wait_for_end()
        person.wait_for_messages(2)
        assert not person.is_over
        key.write_text("another key of more than 32 bytes")
        sidecar.processes["proxy"].send_signal(signal.SIGHUP)
        person.wait_for_end()
        assert scene.late_row(person)["decision"] == "stream.credential_withdrawn"
    finally:
        sidecar.file.write_text(registry)
        key.write_text(known)
        sidecar.processes["proxy"].send_signal(signal.SIGHUP)
        wait_for(lambda: sidecar.call("everything", "no", {}, sidecar.token("everything")).status != 401, "it is back")


@pytest.mark.parametrize("wanted", [{"taskIds": ["t"]}, {"resourceSubscriptions": ["file:///../secret"]}])
def test_what_is_not_the_callers_cannot_be_subscribed(scene, wanted) -> None:
    refused = ask(scene, "subscriptions/listen", {"notifications": wanted})
    assert refused.status in {400, 404}
    assert scene.row(refused)["status"] == "denied"


def test_a_question_by_result_passes_and_its_state_is_its_callers_alone(scene) -> None:
    """Multi-round-trip: the server seals its state, so any change on the way would be refused; SEC-16 for the rest."""
    name = "test_input_required_result_request_state"
    first = document(ask(scene, "tools/call", {"name": name}))["result"]
    assert first["resultType"] == "input_required"
    responses = {"confirm": {"action": "accept", "content": {"ok": True}}}
    params = {"name": name, "inputResponses": responses, "requestState": first["requestState"]}
    second = ask(scene, "tools/call", params, rpc_id=2)
    assert "state-ok" in document(second)["result"]["content"][0]["text"]
    tampered = params | {"requestState": first["requestState"][:-3] + "xyz"}
    refused = ask(scene, "tools/call", tampered, rpc_id=3)
    assert (refused.status, scene.row(refused)["decision"]) == (400, "session.state")
    stolen = ask(scene, "tools/call", params, rpc_id=4, sub="eve")
    assert (stolen.status, scene.row(stolen)["decision"]) == (400, "session.state")
    assert scene.row(stolen)["upstream_us"] is None
    bare = ask(scene, "tools/call", params | {"requestState": first["requestState"][32:]}, rpc_id=5)
    assert (bare.status, scene.row(bare)["decision"]) == (400, "session.state")
    assert "state-ok" in document(ask(scene, "tools/call", params, rpc_id=6))["result"]["content"][0]["text"]


def test_a_session_header_and_an_event_id_mean_nothing_in_this_era(scene) -> None:
    headers = {
        "authorization": f"Bearer {scene.sidecar.token('everything')}",
        "accept": "text/event-stream",
        "mcp-protocol-version": MODERN,
        "mcp-session-id": "never-existed-0123456789",
        "last-event-id": "1",
    }
    refused = Stream(f"{scene.sidecar.url}/everything/mcp", "GET", headers)
    assert (refused.status, refused.header("allow")) == (405, "POST")


def test_a_proxy_that_is_stopped_ends_subscriptions_at_once(scene) -> None:
    """The last test of this module: it stops the proxy."""
    subscribed = listen(scene)
    subscribed.wait_for_messages(1)
    begun = time.monotonic()
    scene.sidecar.kill("proxy", 15)
    subscribed.wait_for_end()
    assert time.monotonic() - begun < 10
    assert scene.row(subscribed)["decision"] == "stream.draining"
