"""The two hooks that ship: credentials, and a rate."""

import pytest

from proxy.hooks.api import Caller, EventName, HookEvent, Refuse, Replace, Rewrite
from proxy.hooks.rate import Rate
from proxy.hooks.secrets import Secrets

AWS = "AKIAIOSFODNN7EXAMPLE"
GITHUB = "ghp_" + "a1B2" * 9


def event(name: EventName = "PreToolUse", arguments=None, result=None, tool="send", subject="ada") -> HookEvent:
    return HookEvent(name, "notes", tool, arguments or {}, Caller(subject), "x", {}, result)


async def test_credentials_in_arguments_are_masked_wherever_they_stand() -> None:
    given = {"text": f"use {AWS}", "list": [{"deep": GITHUB}], "n": 1}
    answer = await Secrets({})(event(arguments=given))
    assert isinstance(answer, Rewrite)
    assert answer.arguments == {"text": "use [redacted]", "list": [{"deep": "[redacted]"}], "n": 1}


async def test_credential_that_is_a_name_is_masked_and_not_repeated() -> None:
    given = {"users": {GITHUB: "ada", AWS: "bob", "text": "x"}}
    answer = await Secrets({})(event(arguments=given))
    assert isinstance(answer, Rewrite)
    assert answer.arguments == {"users": {"[redacted] 0": "ada", "[redacted] 1": "bob", "text": "x"}}
    refused = await Secrets({"action": "refuse"})(event(arguments=given))
    assert isinstance(refused, Refuse)
    assert refused.reason == "/users/[redacted] holds what looks like a credential"


async def test_credentials_in_results_are_masked() -> None:
    result = {"content": [{"type": "text", "text": f"key {AWS}"}], "structuredContent": {"key": AWS}}
    answer = await Secrets({})(event("PostToolUse", result=result))
    assert isinstance(answer, Replace)
    assert AWS not in str(answer)


async def test_refusal_names_the_place_and_not_the_credential() -> None:
    answer = await Secrets({"action": "refuse"})(event(arguments={"a": {"b": ["x", AWS]}}))
    assert isinstance(answer, Refuse)
    assert answer.reason == "/a/b/1 holds what looks like a credential"


@pytest.mark.parametrize("value", ["nothing here", "the password is a word", "token ring", "", 7, None])
async def test_what_is_no_credential_passes(value) -> None:
    for action in ("redact", "refuse"):
        answer = await Secrets({"action": action})(event(arguments={"text": value}))
        assert answer is None or answer == Rewrite({"text": value})


async def test_names_count_only_where_asked() -> None:
    given = {"password": "hunter2"}
    assert await Secrets({"action": "refuse"})(event(arguments=given)) is None
    answer = await Secrets({"action": "refuse", "names": True})(event(arguments=given))
    assert isinstance(answer, Refuse)
    assert answer.reason.startswith("/password")


@pytest.mark.parametrize("settings", [{"action": "delete"}, {"names": "yes"}, {"acton": "refuse"}])
def test_secrets_hook_refuses_settings_that_it_does_not_know(settings) -> None:
    with pytest.raises(ValueError, match="settings are"):
        Secrets(settings)


async def test_rate_counts_by_caller_and_tool_and_says_when_again() -> None:
    now = 1000.0
    rate = Rate({"calls": 2, "per_s": 10}, clock=lambda: now)
    assert await rate(event()) is None
    now += 4
    assert await rate(event()) is None
    refused = await rate(event())
    assert isinstance(refused, Refuse)
    assert refused.retry_after_s == 6
    assert await rate(event(subject="bob")) is None
    assert await rate(event(tool="other")) is None
    now += 6
    assert await rate(event()) is None
    assert isinstance(await rate(event()), Refuse)


async def test_rate_forgets_the_oldest_keys() -> None:
    rate = Rate({"calls": 1, "by": ["caller"]}, clock=lambda: 1.0)
    for number in range(10_001):
        assert await rate(event(subject=str(number))) is None
    assert await rate(event(subject="0")) is None
    assert isinstance(await rate(event(subject="10000")), Refuse)


@pytest.mark.parametrize("settings", [{}, {"calls": 0}, {"calls": 1, "per_s": 0}, {"calls": 1, "by": ["moon"]}])
def test_rate_hook_refuses_settings_that_mean_nothing(settings) -> None:
    with pytest.raises(ValueError, match="settings are"):
        Rate(settings)
