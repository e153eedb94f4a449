"""The examples of docs/hooks.md work as they stand there."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from proxy.hooks.api import Caller, HookEvent, Refuse, Rewrite
from proxy.hooks.webhook import parse_answer, signed
from registry.models import Hook
from registry.source import parse

PAGE = (Path(__file__).parents[3] / "docs" / "hooks.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(code, "docs/hooks.md", "exec"), names)
    return names


def event(agent: str = "", **arguments: Any) -> HookEvent:
    return HookEvent("PreToolUse", "shop", "read", arguments, Caller(agent=agent), "x")


async def test_python_example_does_what_its_docstring_says() -> None:
    limit_page = run(blocks("python")[0])["limit_page"]
    assert await limit_page(event(limit=10)) is None
    assert await limit_page(event(limit=500, sheet="a")) == Rewrite({"limit": 50, "sheet": "a"})
    assert await limit_page(event("intern", sheet="salaries")) == Refuse("salaries are not for interns")


def test_receivers_example_accepts_our_signature_and_no_other() -> None:
    verify = run(blocks("python")[1])["is_from_postern"]
    key, body = b"a secret of enough bytes", b'{"version":1}'
    headers = signed(key, "id", 1000, body)
    assert verify(headers, body, key, now=1100)
    assert not verify(headers, body + b" ", key, now=1100)
    assert not verify(headers, body, b"another secret of bytes", now=1100)
    assert not verify(headers, body, key, now=1400)


def test_registry_example_is_a_registry() -> None:
    source, problems = parse(blocks("yaml")[0].encode(), "docs/hooks.md")
    assert not problems
    assert source.root is not None
    data: Any = source.root.data
    assert [Hook.model_validate(hook).name for hook in data["hooks"]] == ["office-hours", "no-keys-out", "ask-legal"]


@pytest.mark.parametrize("line", blocks("json")[1].strip().splitlines())
def test_every_answer_of_the_page_is_understood(line) -> None:
    parse_answer(line.encode())


def test_event_of_the_page_has_the_members_that_are_sent() -> None:
    shown = json.loads(blocks("json")[0])
    assert set(shown) == {"version", *HookEvent.__slots__}
    assert set(shown["caller"]) == set(Caller.__slots__)
