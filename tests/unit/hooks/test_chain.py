"""Hooks in order: what they may do, and what becomes of those that raise, hang or answer nonsense (SPEC C5)."""

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

import pytest

from proxy.hooks.api import Caller, EventName, HookEvent
from proxy.hooks.chain import MOST_LEFT_BEHIND, Step, run_after, run_before
from proxy.hooks.errors import HookConfigError
from proxy.hooks.python_hook import THREADS, load_hook
from registry.contracts.canonical import digest

BASE = Path(__file__).parent


def step(name: str, event: EventName = "PreToolUse", timeout_s: float = 5.0, **more: Any) -> Step:
    run = load_hook(name, f"tests.fakes.hooks:{name}", BASE, more.pop("settings", {}))
    return Step(name, event, run, timeout_s, **more)


def event(**more: Any) -> HookEvent:
    given: dict[str, Any] = {
        "event": "PreToolUse",
        "server": "notes",
        "tool": "read",
        "arguments": {"id": 3},
        "caller": Caller("ada"),
    }
    whole: dict[str, Any] = {**given, "execution_id": "x", **more}
    return HookEvent(**whole)


def after(**more: Any) -> HookEvent:
    result = {"content": [{"type": "text", "text": "hi"}], "structuredContent": {"id": 3, "text": "hi"}}
    return event(**{"event": "PostToolUse", "result": result, **more})


async def test_hooks_that_allow_change_nothing() -> None:
    passage = await run_before([step("allow"), step("allow")], event())
    assert (passage.refusal, passage.is_changed, passage.value) == (None, False, {"id": 3})
    assert [record["did"] for record in passage.records] == ["allowed", "allowed"]


async def test_hook_that_refuses_ends_the_chain_and_names_itself() -> None:
    passage = await run_before([step("refuse"), step("first")], event())
    assert passage.refusal is not None
    assert passage.refusal.reason == "ada must not call read"
    assert passage.by == "refuse"
    assert [record["did"] for record in passage.records] == ["refused"]


async def test_rewrites_run_in_order_and_tell_digests_and_places() -> None:
    passage = await run_before([step("first"), step("double")], event())
    assert passage.value == {"id": 2}
    assert passage.is_changed
    first, second = passage.records
    assert (first["before"], first["after"], first["changed"]) == (digest({"id": 3}), digest({"id": 1}), ["/id"])
    assert (second["before"], second["after"]) == (digest({"id": 1}), digest({"id": 2}))
    swapped = await run_before([step("double"), step("first")], event())
    assert swapped.value == {"id": 1}


async def test_hook_that_changes_its_copy_changes_nothing() -> None:
    given = event()
    passage = await run_before([step("change_in_place"), step("allow")], given)
    assert (passage.value, given.arguments, passage.is_changed) == ({"id": 3}, {"id": 3}, False)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("raise_error", "it raised RuntimeError"),
        ("exit_process", "it raised SystemExit"),
        ("exit_loop", "it raised SystemExit"),
        ("interrupt_loop", "it raised KeyboardInterrupt"),
        ("stop_iterating", "it raised StopIteration"),
        ("take_too_much", "it raised TypeError"),
        ("cancel_itself", "it cancelled itself"),
        ("nonsense", "it answered dict"),
        ("unencodable", "it answered Rewrite with what is no JSON object"),
        ("not_a_number", "it answered Rewrite with what is no JSON object"),
        ("no_text", "it answered Refuse with a reason that is not text"),
        ("no_time", "it answered Refuse with a retry_after_s that is not a whole number"),
        ("replace", "it answered Replace"),
        ("hang", "no answer within 0.2 s"),
        ("hang_stubbornly", "no answer within 0.2 s"),
        ("hang_in_a_thread", "no answer within 0.2 s"),
    ],
)
async def test_broken_hook_refuses_before_and_is_recorded_after(name, said) -> None:
    """Its exception's text, which may quote what it was given, is nowhere."""
    began = time.monotonic()
    passage = await run_before([step(name, timeout_s=0.2), step("first")], event())
    assert time.monotonic() - began < 1.5
    assert passage.refusal is not None
    assert passage.has_failed
    assert said in passage.refusal.reason
    assert "4711" not in str(passage)
    assert passage.value == {"id": 3}
    if name == "replace":
        return
    later = await run_after([step(name, "PostToolUse", 0.2), step("replace", "PostToolUse")], after())
    assert later.refusal is None
    assert [record["did"] for record in later.records] == ["failed", "replaced"]
    assert later.value["structuredContent"]["text"] == "[hidden]"


async def test_log_names_the_place_where_a_hook_raised(caplog) -> None:
    await run_before([step("exit_process")], event())
    said = caplog.records[-1].getMessage()
    assert said.startswith("hook exit_process raised SystemExit at ")
    assert "fakes/hooks.py:" in said


async def test_rewritten_arguments_are_what_the_wire_will_carry() -> None:
    passage = await run_before([step("loose_types")], event())
    assert passage.value == {"id": 3, "7": [1, 2]}
    assert passage.records[0]["after"] == digest(passage.value)


async def test_required_hook_that_fails_after_withholds() -> None:
    passage = await run_after([step("raise_error", "PostToolUse", required=True)], after())
    assert passage.refusal is not None
    assert passage.has_failed


async def test_hook_after_the_call_may_withhold_but_not_rewrite() -> None:
    passage = await run_after([step("withhold", "PostToolUse")], after())
    assert passage.refusal is not None
    assert not passage.has_failed
    wrong = await run_after([step("first", "PostToolUse")], after())
    assert (wrong.refusal, wrong.records[0]["did"]) == (None, "failed")


async def test_failure_hooks_cannot_refuse_what_has_failed_already() -> None:
    failed = event(event="PostToolUseFailure", error="the server is away")
    passage = await run_after([step("withhold", "PostToolUseFailure"), step("allow", "PostToolUseFailure")], failed)
    assert [record["did"] for record in passage.records] == ["failed", "allowed"]


async def test_threads_that_hang_are_few_and_others_wait_for_their_limit_only() -> None:
    hanging = step("hang_in_a_thread", timeout_s=0.1)
    passages = await asyncio.gather(*(run_before([hanging], event()) for _ in range(THREADS + 4)))
    assert all(passage.has_failed for passage in passages)


async def test_hook_that_never_ends_is_left_behind_only_so_often() -> None:
    """What ignores its cancellation costs memory: at a limit it is not asked any more, and asked again when some ended."""
    ended = asyncio.Event()

    async def ignore(_event: HookEvent) -> None:
        while not ended.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await ended.wait()

    stubborn = Step("mine", "PreToolUse", ignore, 0.001)
    passages = [await run_before([stubborn], event()) for _ in range(MOST_LEFT_BEHIND + 3)]
    assert all(passage.has_failed for passage in passages)
    assert len(stubborn.left_behind) == MOST_LEFT_BEHIND
    assert passages[-1].refusal is not None
    assert "have not ended" in passages[-1].refusal.reason
    ended.set()
    await asyncio.wait(list(stubborn.left_behind))
    assert not stubborn.left_behind


async def test_cancelled_call_cancels_its_hook() -> None:
    task = asyncio.ensure_future(run_before([step("hang", timeout_s=60)], event()))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("patterns", "tool", "is_for"),
    [((), "any", True), (("read",), "read", True), (("read",), "Read", False), (("del*",), "delete", True)],
)
async def test_hooks_choose_their_tools(patterns, tool, is_for) -> None:
    assert step("allow", tools=patterns).is_for(tool) is is_for


async def test_class_is_made_once_with_its_settings() -> None:
    configured = step("Configured", settings={"forbidden": "read"})
    assert (await run_before([configured], event())).refusal is not None
    assert (await run_before([configured], event(tool="write"))).refusal is None


@pytest.mark.parametrize(
    "target",
    ["tests.fakes.hooks:missing", "tests.no_such_module:x", "tests.fakes.hooks:Misconfigured", "no_file.py:x",
     "tests.fakes.hooks:NOT_CALLABLE", "tests.fakes.hooks", ""],
)  # fmt: skip
def test_hook_that_cannot_be_loaded_stops_the_start(target) -> None:
    with pytest.raises(HookConfigError, match="hook mine"):
        load_hook("mine", target, BASE, {})


def test_hook_file_that_leaves_while_it_is_loaded_is_refused_as_any_other(tmp_path) -> None:
    """At a reload the running fleet goes on under the old hooks; its proxy must not end with the file."""
    (tmp_path / "mine.py").write_text("import sys\n\nsys.exit('no settings')\n")
    with pytest.raises(HookConfigError, match=r"hook mine: mine.py:check cannot be loaded: SystemExit: no settings"):
        load_hook("mine", "mine.py:check", tmp_path, {})


async def test_hook_may_be_a_file_beside_the_registry(tmp_path) -> None:
    (tmp_path / "mine.py").write_text(
        "from proxy.hooks import Refuse\n\n\ndef check(event):\n    return Refuse('mine')\n"
    )
    run = load_hook("mine", "mine.py:check", tmp_path, {})
    passage = await run_before([Step("mine", "PreToolUse", run, 5.0)], event())
    assert passage.refusal is not None
    assert passage.refusal.reason == "mine"
