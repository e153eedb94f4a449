"""Tasks of both eras through a running proxy: whose they are, under which id, and what becomes of them (SEC-16).

The server in front of which all this happens tells nobody apart: only the proxy can.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.tasking import EXTENSION, RELATED, Tasking
from tests.sidecar import META, MODERN, wait_for
from tests.streaming import Legacy, Scene, Stream, document, leave_all

DECLARED = {**META, "io.modelcontextprotocol/clientCapabilities": {"extensions": {EXTENSION: {}}}}
RESULT = {"content": [{"type": "text", "text": "done"}], "structuredContent": {"pin": "1234", "sum": 7}}
NAMED = {"tools/call": "name", "tasks/get": "taskId", "tasks/update": "taskId", "tasks/cancel": "taskId"}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Tasking]:
    with Tasking() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def scene(tmp_path_factory, module_database, upstream) -> Iterator[Scene]:
    server: dict[str, Any] = {
        "type": "external",
        "endpoint": f"http://127.0.0.1:{upstream.port}/mcp",
        "tools": {
            "work": {"redact": {"output": ["/structuredContent/pin"]}},
            "private": {"scopes": ["one:private"]},
        },
    }
    # The shortest idle timeout of a fleet sets the pace of its housekeeping.
    servers = {
        "one": server,
        "two": {**server, "sessions": {"idle_s": 4}},
        "open": {**server, "oauth": {"required": False}},
    }
    scene = Scene(tmp_path_factory.mktemp("tasks"), module_database, servers)
    try:
        scene.sidecar.start_proxy()
        yield scene
    finally:
        scene.sidecar.stop()


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    yield
    leave_all()


class Anonymous(Legacy):
    """A client without a token."""

    def headers(self, **more: str) -> dict[str, str]:
        return {name: value for name, value in super().headers(**more).items() if name != "authorization"}


def modern(scene: Scene, method: str, params: dict[str, Any], meta: dict[str, Any] = DECLARED, **claims: Any) -> Stream:
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
    headers = {
        "authorization": f"Bearer {scene.sidecar.token('one', **claims)}",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": MODERN,
        "mcp-method": method,
    }
    if method in NAMED:
        headers["mcp-name"] = params[NAMED[method]]
    return Stream(f"{scene.sidecar.url}/one/mcp", "POST", headers, json.dumps(message).encode())


def begin(client: Legacy, tool: str = "work") -> str:
    """Call a tool as a task of the handshake era; return the id that the client gets."""
    result = document(client.ask("tools/call", {"name": tool, "arguments": {}, "task": {"ttl": 1000}}))["result"]
    return result["task"]["taskId"]


def begin_modern(scene: Scene, **claims: Any) -> str:
    return document(modern(scene, "tools/call", {"name": "work", "arguments": {}}, **claims))["result"]["taskId"]


def upstream_id(scene: Scene, task_id: str) -> str:
    return scene.query("select upstream_id from mcp_tasks where id = $1", task_id)[0]["upstream_id"]


def answered(stream: Stream) -> tuple[int, dict[str, Any]]:
    """Return status and error of an answer, without what differs from one to the next."""
    error = document(stream)["error"]
    error["data"].pop("executionId")
    return stream.status, error


def test_a_task_of_the_handshake_era_lives_under_an_id_of_ours(scene, upstream) -> None:
    client = scene.client("one")
    called = client.ask("tools/call", {"name": "work", "arguments": {}, "task": {"ttl": 1000}})
    task_id = document(called)["result"]["task"]["taskId"]
    assert task_id not in upstream.tasks
    own = upstream_id(scene, task_id)
    assert own in upstream.tasks
    assert (scene.row(called)["status"], scene.row(called)["tool"]) == ("success", "work")
    got = client.ask("tasks/get", {"taskId": task_id})
    assert document(got)["result"]["taskId"] == task_id
    assert upstream.last("tasks/get")[1]["params"] == {"taskId": own}
    row = scene.row(got)
    assert (row["method"], row["tool"], row["status"], row["scopes_matched"]) == (
        "tasks/get",
        "work",
        "success",
        ["one:use"],
    )
    listed = document(client.ask("tasks/list"))["result"]
    assert [task["taskId"] for task in listed["tasks"]].count(task_id) == 1
    assert own not in json.dumps(listed["tasks"])
    waiting = client.ask("tasks/result", {"taskId": task_id})
    wait_for(lambda: upstream.last("tasks/result")[1].get("params") == {"taskId": own}, "the question arrives")
    upstream.change(own, status="completed", result=RESULT)
    result = document(waiting)["result"]
    assert result["content"] == RESULT["content"]
    assert result["_meta"][RELATED]["taskId"] == task_id
    assert "1234" not in scene.row(waiting)["output"], "what the tool's rule takes out is taken out here, too"
    cancelled = client.ask("tasks/cancel", {"taskId": task_id})
    assert document(cancelled)["result"]["status"] == "cancelled"
    execution = cancelled.header("x-postern-execution-id")
    assert scene.query("select 1 from audit_intents where execution_id = $1::text::uuid", execution), "it acts"


def test_a_task_of_the_extension_lives_under_an_id_of_ours(scene, upstream) -> None:
    task_id = begin_modern(scene)
    own = upstream_id(scene, task_id)
    got = document(modern(scene, "tasks/get", {"taskId": task_id}))["result"]
    assert (got["taskId"], got["status"]) == (task_id, "working")
    headers, message = upstream.last("tasks/get")
    assert (headers["mcp-name"], message["params"]["taskId"]) == (own, own)
    updated = modern(scene, "tasks/update", {"taskId": task_id, "inputResponses": {"q": {"action": "accept"}}})
    assert document(updated)["result"] == {"resultType": "complete"}
    assert upstream.last("tasks/update")[1]["params"]["inputResponses"] == {"q": {"action": "accept"}}
    upstream.change(own, status="completed", result={**RESULT, "isError": True})
    ended = modern(scene, "tasks/get", {"taskId": task_id})
    assert document(ended)["result"]["result"]["structuredContent"] == RESULT["structuredContent"]
    row = scene.row(ended)
    assert (row["status"], row["tool"]) == ("tool_error", "work")
    assert "1234" not in row["output"]
    assert document(modern(scene, "tasks/cancel", {"taskId": task_id}))["result"]["taskId"] == task_id


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_a_task_of_another_principal_or_server_answers_like_one_that_never_was(scene, upstream, era) -> None:
    """So do the server's own id, guessed, and an id that is too long or not text that could be one."""
    theirs = begin(scene.client("one", sub="eve")) if era == "legacy" else begin_modern(scene, sub="eve")
    others = begin(scene.client("two"))
    own = upstream_id(scene, theirs)
    client = scene.client("one")
    before = len(upstream.seen)
    methods = (
        ("tasks/get", "tasks/result", "tasks/cancel")
        if era == "legacy"
        else ("tasks/get", "tasks/update", "tasks/cancel")
    )
    for method in methods:
        seen = set()
        for task_id in ("never-existed-0123456789", theirs, others, own, "x" * 2000):
            params = {"taskId": task_id}
            stream = client.ask(method, params) if era == "legacy" else modern(scene, method, params)
            seen.add(json.dumps(answered(stream)))
            row = scene.row(stream)
            assert (row["status"], row["decision"]) == ("denied", "authz.unknown_task")
            assert row["reason"] == ("the task is another caller's" if task_id == theirs else "there is no such task")
        assert len(seen) == 1
        status, error = json.loads(seen.pop())
        assert (status, error["code"]) == (200 if era == "legacy" else 400, -32602)
    assert len(upstream.seen) == before, "the server was not asked"


def test_the_same_subject_through_another_client_does_not_hold_the_task(scene) -> None:
    task_id = begin_modern(scene, client_id="cli")
    stream = modern(scene, "tasks/get", {"taskId": task_id}, client_id="other")
    assert scene.row(stream)["decision"] == "authz.unknown_task"


def test_a_list_shows_the_callers_own_tasks_and_no_others(scene) -> None:
    ada, eve = scene.client("one", sub="ada-lists"), scene.client("one", sub="eve-lists")
    hers = [begin(ada), begin(ada)]
    begin(eve)
    listed = document(ada.ask("tasks/list"))["result"]
    assert [task["taskId"] for task in listed["tasks"]] == hers
    assert listed["nextCursor"] == "task-1"


def test_anonymous_callers_hold_their_tasks_by_session(scene) -> None:
    """Nothing else tells them apart."""
    first, second = (Anonymous(scene.sidecar, "open").initialize() for _ in range(2))
    task_id = begin(first)
    assert document(first.ask("tasks/get", {"taskId": task_id}))["result"]["taskId"] == task_id
    assert scene.row(second.ask("tasks/get", {"taskId": task_id}))["decision"] == "authz.unknown_task"
    assert document(second.ask("tasks/list"))["result"]["tasks"] == []


def test_whoever_may_not_use_the_tool_may_not_use_its_tasks(scene, upstream) -> None:
    """Scopes are checked with every request, the tool's among them."""
    strong = scene.client("one", scope="one:use one:private", sub="sam")
    task_id = begin(strong, "private")
    assert scene.row(strong.ask("tasks/get", {"taskId": task_id}))["scopes_required"] == ["one:use", "one:private"]
    weak = scene.client("one", sub="sam")
    before = len(upstream.seen)
    refused = weak.ask("tasks/get", {"taskId": task_id})
    assert (refused.status, scene.row(refused)["decision"]) == (403, "authz.scope")
    assert "one:private" in refused.header("www-authenticate")
    assert len(upstream.seen) == before


def test_a_client_that_does_not_declare_the_extension_is_told_so(scene) -> None:
    refused = modern(scene, "tasks/get", {"taskId": "any"}, meta=META)
    assert answered(refused) == (
        400,
        {
            "code": -32021,
            "message": scene.row(refused)["reason"],
            "data": {"requiredCapabilities": {"extensions": {EXTENSION: {}}}, "code": "task.undeclared"},
        },
    )
    listening = modern(scene, "subscriptions/listen", {"notifications": {"taskIds": ["any"]}}, meta=META)
    assert scene.row(listening)["decision"] == "task.undeclared"


def test_a_subscription_follows_the_callers_own_tasks(scene, upstream) -> None:
    """Each message has our id; a result is recorded before it is sent; of another's task nothing is told."""
    task_id, theirs = begin_modern(scene), begin_modern(scene, sub="eve")
    own = upstream_id(scene, task_id)
    subscribed = modern(scene, "subscriptions/listen", {"notifications": {"taskIds": [task_id]}})
    acknowledged = subscribed.wait_for_messages(1)[0]
    assert acknowledged["params"]["notifications"]["taskIds"] == [task_id]
    assert upstream.last("subscriptions/listen")[1]["params"]["notifications"]["taskIds"] == [own]
    upstream.change(upstream_id(scene, theirs), status="completed", result={"content": [], "note": "not-for-ada"})
    upstream.change(own, statusMessage="half way")
    upstream.change(own, status="completed", result=RESULT)
    told = subscribed.wait_for_messages(3)[1:]
    assert [(m["params"]["taskId"], m["params"]["status"]) for m in told] == [
        (task_id, "working"),
        (task_id, "completed"),
    ]
    assert told[1]["params"]["result"] == RESULT
    assert "not-for-ada" not in json.dumps(subscribed.messages)
    row = scene.rows("decision = 'stream.task_result'")[-1]
    assert (row["method"], row["tool"], row["status"]) == ("notifications/tasks", "work", "success")
    assert subscribed.header("x-postern-execution-id") in row["reason"]
    assert "1234" not in row["output"]
    refused = modern(scene, "subscriptions/listen", {"notifications": {"taskIds": [task_id, theirs]}})
    assert scene.row(refused)["decision"] == "authz.unknown_task"


def test_a_standing_stream_tells_of_own_tasks_only(scene, upstream) -> None:
    """Questions name the task that they belong to; so does the answer to one, and the server sees its own id."""
    ada, eve = scene.client("one", sub="ada-stands"), scene.client("one", sub="eve-stands")
    task_id, hers = begin(ada), begin(eve)
    own, eves = upstream_id(scene, task_id), upstream_id(scene, hers)
    standing = ada.get()
    assert standing.status == 200
    wait_for(lambda: upstream.streams, "the stream arrives")
    for each in (eves, own):
        upstream.say({"jsonrpc": "2.0", "method": "notifications/tasks/status", "params": upstream.tasks[each]})
    for rpc_id, about in (("q1", own), ("q2", eves), ("q3", "the-clients-own")):
        params = {"message": "?", "_meta": {RELATED: {"taskId": about}, "kept": 1}}
        upstream.say({"jsonrpc": "2.0", "id": rpc_id, "method": "elicitation/create", "params": params})
    status, first, second, third = standing.wait_for_messages(4)
    assert status["params"]["taskId"] == task_id
    assert first["params"]["_meta"] == {RELATED: {"taskId": task_id}, "kept": 1}
    assert second["params"]["_meta"] == {"kept": 1}
    assert third["params"]["_meta"][RELATED] == {"taskId": "the-clients-own"}

    def said(rpc_id: str, about: str) -> Stream:
        result = {"action": "accept", "_meta": {RELATED: {"taskId": about}}}
        return ada.send({"jsonrpc": "2.0", "id": rpc_id, "result": result})

    for foreign in (eves, hers):
        refused = said("q1", foreign)
        assert (refused.status, scene.row(refused)["decision"]) == (400, "authz.unknown_task")
    assert said("q1", task_id).status == 202
    assert upstream.seen[-1][1]["result"]["_meta"][RELATED]["taskId"] == own
    assert said("q3", "the-clients-own").status == 202
    assert upstream.seen[-1][1]["result"]["_meta"][RELATED]["taskId"] == "the-clients-own"


def test_a_task_that_arrives_on_a_resumed_stream_is_bound_and_its_result_authorized_there_too(scene, upstream) -> None:
    """The server closes streams before their answers: the one that brings the task, and the one that brings its result."""
    client = scene.client("one", scope="one:use one:private", sub="poll")
    upstream.polls = True
    try:
        called = client.ask("tools/call", {"name": "private", "arguments": {}, "task": {}})
        called.wait_for_end()
        task_id = client.get(called.last_id).wait_for_messages()[0]["result"]["task"]["taskId"]
        own = upstream_id(scene, task_id)
        assert own in upstream.tasks
        upstream.change(own, status="completed", result=RESULT)
        asked = client.ask("tasks/result", {"taskId": task_id})
        asked.wait_for_end()
        result = client.get(asked.last_id).wait_for_messages()[0]["result"]
        assert result["_meta"][RELATED]["taskId"] == task_id
        rows = scene.rows("session = $1 and decision = 'stream.late_answer'", client.session)
        assert [(row["method"], row["tool"]) for row in rows] == [
            ("tools/call", "private"),
            ("tasks/result", "private"),
        ]
        client.token = scene.sidecar.token("one", sub="poll")
        refused = client.get(asked.last_id)
        assert (refused.status, scene.row(refused)["decision"]) == (403, "authz.scope")
        polled = scene.client("one", scope="one:use one:private", sub="poll")
        state = polled.ask("tasks/get", {"taskId": task_id})
        state.wait_for_end()
        assert polled.get(state.last_id).wait_for_messages()[0]["result"]["taskId"] == task_id
    finally:
        upstream.polls = False


def test_an_id_that_a_restarted_server_gives_out_again_belongs_to_whom_it_was_given_last(scene, upstream) -> None:
    upstream.forget()
    first = begin_modern(scene, sub="first")
    upstream.forget()
    second = begin_modern(scene, sub="second")
    assert upstream_id(scene, second) == "task-1"
    assert scene.row(modern(scene, "tasks/get", {"taskId": first}, sub="first"))["decision"] == "authz.unknown_task"
    assert document(modern(scene, "tasks/get", {"taskId": second}, sub="second"))["result"]["taskId"] == second


def test_a_server_that_answers_with_another_task_is_broken(scene, upstream) -> None:
    task_id = begin_modern(scene)
    upstream.wrong_id = "task-of-somebody"
    broken = modern(scene, "tasks/get", {"taskId": task_id})
    broken.wait_for_end()
    upstream.wrong_id = None
    assert (broken.status, scene.row(broken)["decision"]) == (502, "upstream.broken_answer")
    assert b"task-of-somebody" not in broken.body


@pytest.mark.parametrize(("ttl", "hours"), [(None, 30 * 24), (60_000, 24), (3 * 86_400_000, 72), (10**15, 30 * 24)])
def test_a_task_is_remembered_as_long_as_its_server_keeps_it_within_bounds(scene, upstream, ttl, hours) -> None:
    upstream.ttl = ttl
    task_id = begin_modern(scene)
    upstream.ttl = 60_000
    kept = "select extract(epoch from expires - created) / 3600 as hours from mcp_tasks where id = $1"
    assert round(scene.query(kept, task_id)[0]["hours"]) == hours


def test_an_expired_task_is_unknown_and_swept(scene) -> None:
    task_id = begin_modern(scene)
    scene.query("update mcp_tasks set expires = now() where id = $1", task_id)
    assert scene.row(modern(scene, "tasks/get", {"taskId": task_id}))["decision"] == "authz.unknown_task"
    gone = "select 1 from mcp_tasks where id = $1"
    wait_for(lambda: not scene.query(gone, task_id), "the row is deleted", limit_s=40)


def test_the_oldest_of_too_many_tasks_is_forgotten(scene) -> None:
    """Nobody fills the table."""
    oldest = begin_modern(scene, sub="busy")
    fill = """insert into mcp_tasks (id, server, issuer, subject, client, upstream_id, tool, expires)
              select md5(i::text) || md5(i::text), server, issuer, subject, client, 'filled-' || i, tool, expires
              from mcp_tasks, generate_series(1, 1000) as i where id = $1"""
    scene.query(fill, oldest)
    newest = begin_modern(scene, sub="busy")
    held = {row["id"] for row in scene.query("select id from mcp_tasks where subject = 'busy'")}
    assert len(held) == 1000
    assert newest in held


@pytest.mark.parametrize("params", [{}, {"taskId": 7}, {"taskId": None}])
def test_a_request_for_a_task_that_names_none_is_refused(scene, params) -> None:
    stream = scene.client("one").ask("tasks/get", params)
    assert (document(stream)["error"]["code"], scene.row(stream)["decision"]) == (-32602, "authz.params")


def test_without_the_store_a_task_is_neither_given_out_nor_used(scene) -> None:
    """The last but one: the table is taken away."""
    task_id = begin_modern(scene)
    scene.query("alter table mcp_tasks rename to mcp_tasks_away")
    try:
        asked = modern(scene, "tasks/get", {"taskId": task_id})
        called = modern(scene, "tools/call", {"name": "work", "arguments": {}})
        assert [(each.status, scene.row(each)["decision"]) for each in (asked, called)] == [(503, "session.store")] * 2
        assert b"task-" not in called.body
    finally:
        scene.query("alter table mcp_tasks_away rename to mcp_tasks")


def test_a_task_survives_the_proxy_and_another_replica_serves_it(scene) -> None:
    client = scene.client("one")
    task_id, modern_id = begin(client), begin_modern(scene)
    scene.sidecar.kill("proxy")
    replica = scene.start_replica()
    client.url = client.url.replace(scene.sidecar.url, replica)
    assert document(client.ask("tasks/get", {"taskId": task_id}))["result"]["taskId"] == task_id
    scene.sidecar.start_proxy()
    assert document(modern(scene, "tasks/get", {"taskId": modern_id}))["result"]["taskId"] == modern_id
