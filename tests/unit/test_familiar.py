"""What is known of calls like earlier ones never lets anything pass that would not pass alone."""

import json
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from proxy.authorize import Policy
from proxy.call import Call
from proxy.errors import Refusal
from proxy.exchange import Exchange, Header
from proxy.executor import Executor
from proxy.familiar import Familiar
from proxy.pipeline import Pipeline
from proxy.routes import Route
from proxy.sessions.store import Sessions
from proxy.tasks.store import Task
from proxy.wire.fields import MOST_FACTS, Fields
from tests.bench.way import NAME, Setting

RELATED = "io.modelcontextprotocol/related-task"
Json = dict[str, Any]


class Asked:
    """A request with a body, and nobody who listens."""

    method = "POST"
    path = f"/{NAME}/mcp"
    query = b""
    remote = "127.0.0.1"
    scheme = "http"
    has_begun = False

    def __init__(self, headers: Fields, body: bytes) -> None:
        self.headers = headers
        self.body = body

    async def read_body(self, _limit: int) -> bytes:
        return self.body

    def add_headers(self, headers: Sequence[Header]) -> None:
        raise AssertionError(f"no browser asks: {headers}")


class Notes:
    """An executor that keeps what became of each call."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []

    async def refuse(self, _exchange: Exchange, call: Call, refusal: Refusal) -> None:
        self.said.append((refusal.code, refusal.status, refusal.reason, call.rpc_id))

    async def execute(self, _exchange: Exchange, call: Call, route: Route) -> None:
        assert call.envelope is not None
        told = call.request()
        found = (
            call.era,
            call.protocol_version,
            call.identity,
            call.decision,
            call.target,
            call.contract,
            call.trace_id,
        )
        recorded = (told.subject, told.scopes, told.tool, told.input)
        self.said.append((route.server.name, *found, *recorded, call.envelope.encoded()))

    def count_answer(self, exchange: Exchange, call: Call) -> None:
        """Nobody counts."""


class OthersTasks:
    """Knows one task, of somebody else."""

    async def find(self, *_: object) -> dict[str, Task]:
        return {}

    async def find_upstream(self, *_: object) -> dict[str, Task]:
        return {"t": Task("ours", "t", "echo", is_own=False)}


class Available:
    def why_not(self, server: str) -> str | None:
        return None

    def versions_of(self, server: str) -> tuple[str, ...]:
        return ()


def pipeline_of(setting: Setting, route: Route, notes: Notes) -> Pipeline:
    sessions = cast("Sessions", SimpleNamespace(tasks=OthersTasks()))
    return Pipeline({Asked.path: route}, setting.door, sessions, Available(), cast("Executor", notes))


@pytest.fixture
def setting(tmp_path):
    return Setting(tmp_path)


def changed(body: bytes, **params: Any) -> bytes:
    """Return the call with other parameters; `...` takes one out."""
    message = json.loads(body)
    message["params"] |= params
    message["params"] = {name: value for name, value in message["params"].items() if value is not ...}
    return json.dumps(message).encode()


def variants(body: bytes) -> list[bytes]:
    """Return calls that differ from the plain one in one thing each, most of which must not pass."""
    message: Json = json.loads(body)
    meta: Json = message["params"]["_meta"]
    version, capabilities = list(meta)
    return [
        changed(body, arguments={"text": "other", "limit": 1, "tags": []}),
        changed(body, arguments={"text": 5}),
        changed(body, arguments=...),
        changed(body, name="other"),
        changed(body, name=["echo"]),
        changed(body, name=...),
        changed(body, _meta=...),
        changed(body, _meta=meta | {version: "2025-11-25"}),
        changed(body, _meta=meta | {version: "2026-07-29"}),
        changed(body, _meta=meta | {capabilities: 5}),
        changed(body, _meta=meta | {RELATED: {"taskId": "t"}, "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}),
        changed(body, _meta=meta | {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}),
        changed(body, task={"ttl": 5}),
        changed(body, requestState="of somebody else"),
        changed(body, arguments=..., requestState="of somebody else"),
        json.dumps(message | {"method": "tools/list"}).encode(),
        json.dumps(message | {"method": "prompts/get"}).encode(),
        json.dumps({key: value for key, value in message.items() if key != "id"}).encode(),
        json.dumps({"jsonrpc": "2.0", "id": 1, "result": {}}).encode(),
        json.dumps(message | {"Params": {}}).encode(),
        json.dumps(message | {"more": 1, "id": "other"}).encode(),
        b"[]",
    ]


@pytest.mark.anyio
async def test_every_variant_of_a_familiar_call_meets_what_it_meets_alone(setting):
    """Twice, with the plain call before and after: with one head for all, and with a head of its own for each."""
    route, notes = setting.route(), Notes()
    pipeline = pipeline_of(setting, route, notes)
    sent = [each for variant in variants(setting.body) for each in (setting.body, variant, variant, setting.body)]
    shared = Fields.of(setting.headers)
    for body in sent:
        await pipeline.handle(cast("Exchange", Asked(shared, body)))
    together, notes.said = notes.said, []
    for body in sent:
        await pipeline.handle(cast("Exchange", Asked(Fields.of(setting.headers), body)))
    assert together == notes.said
    assert any(isinstance(known, Familiar) for known in shared.facts.values())
    assert len({str(said) for said in together}) > 12


@pytest.mark.anyio
async def test_a_familiar_call_is_judged_anew_when_rules_or_keys_change(setting):
    route, notes, head = setting.route(), Notes(), Fields.of(setting.headers)
    for _ in range(2):
        await pipeline_of(setting, route, notes).handle(cast("Exchange", Asked(head, setting.body)))
    without = Policy.build(setting.fleet, setting.server.model_copy(update={"tools": {}}))
    await pipeline_of(setting, replace(route, policy=without), notes).handle(
        cast("Exchange", Asked(head, setting.body))
    )
    route.auth._keys = ()
    route.auth._verified.clear()
    await pipeline_of(setting, route, notes).handle(cast("Exchange", Asked(head, setting.body)))
    assert [said[0] for said in notes.said] == [NAME, NAME, "authz.unknown_tool", "auth.key"]


@pytest.mark.anyio
async def test_a_proof_ends_with_its_time(setting):
    route, notes, head = setting.route(), Notes(), Fields.of(setting.headers)
    pipeline = pipeline_of(setting, route, notes)
    await pipeline.handle(cast("Exchange", Asked(head, setting.body)))
    (known,) = [each for each in head.facts.values() if isinstance(each, Familiar)]
    assert known.verified.until == pytest.approx(setting.now + 3600 + setting.server.oauth.leeway_s, abs=2)
    known.verified.until = setting.now - 1  # which is now
    await pipeline.handle(cast("Exchange", Asked(head, setting.body)))
    (anew,) = [each for each in head.facts.values() if isinstance(each, Familiar)]
    assert anew.verified is not known.verified


@pytest.mark.anyio
async def test_little_is_kept_of_one_head(setting):
    """However often the rules are reloaded while a client keeps its connection."""
    route, head, notes = setting.route(), Fields.of(setting.headers), Notes()
    for _ in range(3 * MOST_FACTS):
        reloaded = replace(route, policy=Policy.build(setting.fleet, setting.server))
        await pipeline_of(setting, reloaded, notes).handle(cast("Exchange", Asked(head, setting.body)))
    assert {said[0] for said in notes.said} == {NAME}
    assert len(head.facts) <= MOST_FACTS
