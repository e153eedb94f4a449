"""The guard of one server, without a server: what it admits, withholds, tags and costs."""

from time import perf_counter_ns
from typing import Any

import pytest

from proxy.audit.record import Payload
from proxy.guard.drift_record import entries
from proxy.guard.guard import Guard
from proxy.guard.outcome import PASSED
from proxy.hooks.api import HookEvent, Replace, Rewrite
from proxy.hooks.chain import Step
from proxy.wire.era import Era
from tests.unit.contracts.calls import READ, answer, call, catalogue, lock_of, server


def step(run: Any, event: Any = "PreToolUse") -> Step:
    return Step("mine", event, run, 5.0)


async def rewrite(_event: HookEvent) -> object:
    return Rewrite({"id": 2, "region": "ü"})


async def test_nothing_configured_costs_next_to_nothing() -> None:
    """Before and after together stay far below the cost of anything else on the way."""
    guard, request, reply = Guard(server()), call(name="read", arguments={"id": 1}), answer({"text": "x"})
    assert guard.is_idle
    best = 1e9
    for _ in range(50):
        began = perf_counter_ns()
        for _ in range(100):
            await guard.before(request)
            await guard.after(request, reply)
        best = min(best, (perf_counter_ns() - began) / 100)
    assert best < 5_000, f"{best} ns"
    assert await guard.after(request, reply) is PASSED
    assert (request.contract, request.hooks, request.note) == (None, (), None)


async def test_pinned_tool_is_checked_in_microseconds() -> None:
    guard = Guard(server(), lock_of(READ))
    request, reply = call(name="read", arguments={"id": 1}), answer({"text": "x"})
    best = 1e9
    for _ in range(50):
        began = perf_counter_ns()
        for _ in range(20):
            assert await guard.before(request) is None
            assert (await guard.after(request, reply)).finding is None
        best = min(best, (perf_counter_ns() - began) / 20)
    assert best < 60_000, f"{best} ns"
    assert request.contract is not None
    assert request.contract.startswith("sha256:")


@pytest.mark.parametrize(("era", "status"), [(Era.MODERN, 400), (Era.LEGACY, 200)])
async def test_bad_arguments_are_refused_as_each_era_says_it(era, status) -> None:
    guard = Guard(server(), lock_of(READ))
    refusal = await guard.before(call(era=era, name="read", arguments={"id": 0}))
    assert refusal is not None
    assert (refusal.code, refusal.status, refusal.jsonrpc_code) == ("contract.input", status, -32602)
    assert guard.counts.refused == 1


async def test_absent_arguments_are_an_empty_object() -> None:
    guard = Guard(server(), lock_of({"name": "all", "inputSchema": {"type": "object"}}, READ))
    assert await guard.before(call(name="all")) is None
    assert await guard.before(call(name="read")) is not None
    assert await guard.before(call(name="all", arguments=[])) is not None


async def test_mirrored_headers_are_checked_against_pinned_declarations() -> None:
    """A modern call of a tool that declares `x-mcp-header` mirrors the argument, or is refused."""
    guard = Guard(server(), lock_of(READ))
    assert guard.declared_params("read")[0].header == b"mcp-param-region"
    arguments = {"id": 1, "region": "eu"}
    missing = await guard.before(call(name="read", arguments=arguments))
    assert missing is not None
    assert missing.code == "wire.header_mismatch"
    mirrored = [(b"mcp-param-region", b"eu")]
    assert await guard.before(call(headers=mirrored, name="read", arguments=arguments)) is None
    assert await guard.before(call(era=Era.LEGACY, name="read", arguments=arguments)) is None


async def test_rewriting_hook_changes_body_and_mirrored_headers_alike() -> None:
    guard = Guard(server(), lock_of(READ), [step(rewrite)])
    request = call(headers=[(b"mcp-param-region", b"eu")], name="read", arguments={"id": 1, "region": "eu"})
    assert await guard.before(request) is None
    assert request.envelope is not None
    assert request.envelope.params == {"name": "read", "arguments": {"id": 2, "region": "ü"}}
    assert request.envelope.message["params"] == request.envelope.params
    assert dict(request.headers)[b"mcp-param-region"] == b"=?base64?w7w=?="
    assert await Guard(server(), lock_of(READ)).before(request) is None


@pytest.mark.parametrize(
    ("reply", "version", "said"),
    [
        (answer({"text": 7}), "2026-07-28", "/structuredContent/text"),
        (answer([1]), "2026-07-28", "/structuredContent/"),
        (answer(), "2026-07-28", "is missing"),
        (answer(), "2025-06-18", "is missing"),
        (answer({"text": 7}, task={"taskId": "1"}), "2025-11-25", "/structuredContent/text"),
        ({"jsonrpc": "2.0", "id": 7, "result": {"task": {}}}, "2025-11-25", "is missing"),
        (answer({"text": 7}, resultType="input_required"), "2025-11-25", "/structuredContent/text"),
        (answer({"text": 7}, resultType="input_required"), "2026-07-28", "/structuredContent/text"),
        (answer({"text": 7}, resultType="task"), "2026-07-28", "/structuredContent/text"),
        (answer({"text": 7}, resultType=["odd"]), "2026-07-28", "/structuredContent/text"),
    ],
)
async def test_answer_that_breaks_its_promise_is_withheld(reply, version, said) -> None:
    """Whatever it calls itself: no result talks its way past the schema."""
    guard = Guard(server(), lock_of(READ))
    request = call(era=Era.MODERN if version >= "2026" else Era.LEGACY, name="read", arguments={"id": 1})
    request.protocol_version = version
    guarded = await guard.after(request, reply)
    assert guarded.finding is not None
    assert guarded.finding.is_withheld
    assert said in guarded.finding.reason
    assert guarded.message is not None
    assert guarded.message["id"] == 7
    assert guard.counts.withheld == 1


@pytest.mark.parametrize(
    ("reply", "version"),
    [
        (answer(), "2025-03-26"),
        (answer(isError=True), "2026-07-28"),
        (answer(resultType="input_required"), "2026-07-28"),
        ({"jsonrpc": "2.0", "id": 7, "error": {"code": -1, "message": "no"}}, "2026-07-28"),
    ],
)
async def test_what_promises_nothing_passes(reply, version) -> None:
    """Old protocol versions, errors and questions have no structured content to check."""
    guard = Guard(server(), lock_of(READ))
    request = call(name="read", arguments={"id": 1})
    request.protocol_version = version
    assert (await guard.after(request, reply)).message is None


async def test_hook_may_not_make_a_result_another_than_was_promised() -> None:
    async def spoil(event: HookEvent) -> object:
        return Replace({**(event.result or {}), "structuredContent": {"text": 7}})

    guard = Guard(server(), lock_of(READ), [step(spoil, "PostToolUse")])
    guarded = await guard.after(call(name="read", arguments={"id": 1}), answer({"text": "x"}))
    assert guarded.finding is not None
    assert (guarded.finding.code, guarded.finding.is_withheld) == ("hook.invalid", True)


async def test_question_to_the_client_passes_hooks_too() -> None:
    """A credential in `inputRequests` is a credential that leaves."""

    async def mask(event: HookEvent) -> object:
        return Replace({**(event.result or {}), "inputRequests": "[redacted]"})

    guard = Guard(server(), None, [step(mask, "PostToolUse")])
    reply = answer(resultType="input_required", inputRequests="secret")
    guarded = await guard.after(call(name="read", arguments={}), reply)
    assert "secret" not in str(guarded.message)


async def test_strict_trusts_nothing_before_it_was_looked_at() -> None:
    guard = Guard(server(contract={"drift": "strict"}), lock_of(READ))
    refusal = await guard.before(call(name="read", arguments={"id": 1}))
    assert refusal is not None
    assert refusal.code == "contract.unverified"
    guard.contracts.learn(guard.contracts.compare(catalogue(READ)), guard.contracts.revision)
    assert await guard.before(call(name="read", arguments={"id": 1})) is None
    unpinned = await guard.before(call(name="other", arguments={}))
    assert unpinned is not None
    assert unpinned.code == "contract.drift"


async def test_registry_may_bind_tools_that_nobody_pinned() -> None:
    section = {"tools": {"t": {"artifact": "list"}, "*": {"artifact": "text"}}}
    guard = Guard(server(**section))
    listed = await guard.after(call(name="t"), answer({"items": ["a"]}))
    assert listed.message is not None
    assert "'postern/artifact': 'list'" in str(listed.message)
    other = await guard.after(call(name="whatever"), answer())
    assert "'postern/artifact': 'text'" in str(other.message)
    wrong = await guard.after(call(name="t"), answer({"items": 7}))
    assert wrong.finding is not None


@pytest.mark.parametrize("mode", ["warn", "strict"])
async def test_server_cannot_claim_an_artifact(mode) -> None:
    """The tag says that Postern has checked: what a server writes there goes, where the result is none or an error."""
    guard = Guard(server(tools={"t": {"artifact": "list"}}, contract={"output": mode}))
    claim = {"_meta": {"postern/artifact": "list", "mine": 1}}
    for reply in (answer({"items": 7}, **claim), answer({"items": 7}, isError=True, **claim)):
        guarded = await guard.after(call(name="t"), reply)
        assert guarded.message is not None
        assert "postern/artifact" not in str(guarded.message)
        if mode == "warn":
            assert "mine" in str(guarded.message)


async def test_names_from_callers_do_not_fill_the_memory() -> None:
    guard = Guard(server(), None, [step(rewrite, "PostToolUse")])
    for number in range(3_000):
        await guard.after(call(name=f"t{number}"), {"jsonrpc": "2.0", "id": 7, "error": {}})
    assert len(guard._tools) <= 2_000


async def test_row_of_a_rewritten_call_hides_what_any_row_hides() -> None:
    """The registry's pointers and cap hold for what a hook made of the arguments, too."""

    async def reveal(_event: HookEvent) -> object:
        return Rewrite({"pin": 4711, "text": "x" * 500})

    declared = server(tools={"t": {"redact": {"input": ["/pin"]}}})
    guard = Guard(declared, None, [step(reveal)], payload_bytes=200)
    request = call(name="t", arguments={"pin": 1})
    request.server = declared
    request.input = Payload("{}", 2, b"d" * 32)
    assert await guard.before(request) is None
    assert request.input.text is not None
    assert "4711" not in request.input.text
    assert len(request.input.text) <= 200
    assert (request.input.size, request.input.sha256) == (2, b"d" * 32)


async def test_pinned_schema_that_cannot_be_used_refuses_its_tool() -> None:
    """The gate finds it; where the lock file was changed since, no call goes unchecked."""
    schema = {"type": "object", "$ref": "http://127.0.0.1:9/x.json"}
    refusal = await Guard(server(), lock_of({"name": "t", "inputSchema": schema})).before(call(name="t", arguments={}))
    assert refusal is not None
    assert refusal.code == "contract.input"
    assert "cannot be used" in refusal.reason


async def test_strict_without_a_lock_lets_nothing_pass() -> None:
    """The gate lets no such server start; where the lock file went away since, all of it is withheld and told."""
    guard = Guard(server(contract={"drift": "strict"}))
    refusal = await guard.before(call(name="read", arguments={"id": 1}))
    assert refusal is not None
    assert (refusal.code, refusal.status) == ("contract.unlocked", 403)
    assert "postern lock notes" in refusal.reason
    listed: dict[str, object] = {"jsonrpc": "2.0", "id": 7, "result": {"tools": [READ]}}
    guarded = await guard.after(call("tools/list"), listed)
    assert guarded.message is not None
    assert guarded.message["result"] == {"tools": []}
    assert [key for key, _ in entries(guard.contracts).items()] == [("lock", "")]
