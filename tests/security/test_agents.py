"""R7: what an agent's manifest does not declare does not exist for that agent, and only the row says why."""

from collections.abc import Iterator

import pytest

from tests.fakes.recorder import Recorder
from tests.security.conftest import Guarded
from tests.sidecar import Sidecar


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, module_database, recorder: Recorder) -> Iterator[Guarded]:
    external = {"type": "external", "endpoint": f"http://127.0.0.1:{recorder.port}/mcp"}
    servers = {name: {**external, "tools": {"echo": {}, "write": {}}} for name in ("a", "b")}
    agents = {"helper": {"subjects": ["bot"], "servers": {"a": {"tools": ["echo"]}}}}
    registry = {"agents": agents, "audit": {"refusals_per_source": 1_000_000}}
    sidecar = Sidecar(tmp_path_factory.mktemp("agents"), module_database.dsn("postern_proxy"), servers, registry)
    try:
        sidecar.start_proxy()
        yield Guarded(sidecar, recorder, module_database.dsn("postern_auditor"))
    finally:
        sidecar.stop()


def _bot(guarded: Guarded, server: str = "a") -> str:
    return guarded.sidecar.token(server, sub="bot")


def test_declared_tool_passes_and_the_row_names_the_agent(guarded) -> None:
    answer = guarded.sidecar.call("a", "echo", {}, _bot(guarded))
    assert answer.status == 200
    assert guarded.row(answer.headers["x-postern-execution-id"])["agent"] == "helper"


def test_undeclared_tool_answers_like_one_that_is_not_there(guarded) -> None:
    """Word for word the same but for the name and the execution id; the row knows the true reason."""
    before = len(guarded.recorder.seen)
    hidden = guarded.sidecar.call("a", "write", {}, _bot(guarded))
    absent = guarded.sidecar.call("a", "nope", {}, _bot(guarded))
    assert len(guarded.recorder.seen) == before
    shapes = []
    for answer, name in ((hidden, "write"), (absent, "nope")):
        document = answer.json()
        del document["error"]["data"]["executionId"]
        shapes.append((answer.status, repr(document).replace(name, "NAME")))
        assert "helper" not in answer.body.decode()
    assert shapes[0] == shapes[1]
    rows = [guarded.row(answer.headers["x-postern-execution-id"]) for answer in (hidden, absent)]
    assert [row["decision"] for row in rows] == ["authz.agent", "authz.unknown_tool"]
    assert "helper" in rows[0]["reason"]


def test_undeclared_tool_is_absent_from_lists(guarded) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    bot = guarded.sidecar.post("a", message, _bot(guarded)).json()["result"]["tools"]
    person = guarded.sidecar.post("a", message, guarded.sidecar.token("a")).json()["result"]["tools"]
    assert [tool["name"] for tool in bot] == ["echo"]
    assert [tool["name"] for tool in person] == ["echo", "write"]


def test_undeclared_server_is_not_there_for_the_agent(guarded) -> None:
    before = len(guarded.recorder.seen)
    answer = guarded.sidecar.call("b", "echo", {}, _bot(guarded, "b"))
    assert len(guarded.recorder.seen) == before
    assert (answer.status, answer.json()["error"]["data"]["code"]) == (404, "route.unknown_server")
    assert "helper" not in answer.body.decode()
    assert guarded.row(answer.headers["x-postern-execution-id"])["decision"] == "authz.agent_server"


@pytest.mark.parametrize("name", ["nul\x00", "\x1b[31mred", "a" * 5000, "\u202e"])
def test_hostile_names_are_refused_and_have_their_row(guarded, name) -> None:
    """NUL, terminal escapes and long names neither break the row nor the batch that it is in."""
    before = len(guarded.recorder.seen)
    answer = guarded.sidecar.post(
        "a", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name}}, guarded.sidecar.token("a")
    )
    assert guarded.row(answer.headers["x-postern-execution-id"])["status"] == "denied"
    assert len(guarded.recorder.seen) == before
