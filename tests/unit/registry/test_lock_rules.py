"""What the gate finds with the lock file beside the registry: each finding at its line, in one file or the other."""

from pathlib import Path
from typing import Any

import pytest

from registry.contracts.catalogue import Catalogue
from registry.contracts.locked import Lock, ServerLock
from registry.contracts.lockfile import lock_path, render_lock
from registry.gate import GateResult, check
from registry.problems import render_sarif, render_text
from tests.unit.registry.making import ENVIRON, NOW, A, expected, registry_file, reported

OBJECT = {"type": "object"}
READ = {"name": "read", "description": "Read", "inputSchema": OBJECT}
REMOTE = {"name": "far", "inputSchema": {"type": "object", "$ref": "https://example.com/x.json"}}
BARE = {"name": "bare", "inputSchema": OBJECT, "outputSchema": {"type": "nonsense"}}
SUMMARY = {"name": "summary", "description": "Sum up"}


def lock_of(*tools: dict[str, Any]) -> str:
    """Return the text of a lock in which server `a` has these tools and one prompt."""
    listed = {tool["name"]: tool for tool in tools}
    live = Catalogue({"tools": listed, "prompts": {"summary": SUMMARY}}, "Be kind", "a 1", "2026-07-28")
    return render_lock(Lock({"a": ServerLock.of_catalogue(live)}))


def gate(directory: Path, section: str, lock: str, **more: Any) -> GateResult:
    """Check a registry whose server `a` has this section, with a lock beside it."""
    path = registry_file(directory, f"version: 1\nservers:\n  a:\n    {{{A},\n{section}\n     }}\n")
    lock_path(path).write_text(lock, encoding="utf-8")
    return check(path, environ=ENVIRON, now=NOW, **more)


def test_strict_server_that_is_locked_passes(tmp_path):
    section = "     contract: {drift: strict}, tools: {read: {}, '*': {}}, prompts: {summary: {}}"
    assert gate(tmp_path, section, lock_of(READ)).ok


@pytest.mark.parametrize(
    ("code", "section"),
    [
        ("CONTRACT-UNKNOWN", "tools: {read: {},\n reed: {}}, #! CONTRACT-UNKNOWN\n contract: {drift: strict}"),
        ("CONTRACT-UNKNOWN", "prompts: {\n summery: {}}, #! CONTRACT-UNKNOWN\n contract: {drift: strict}"),
        ("CONTRACT-DIGEST", "tools: {read: {\n contract: 'sha256:0'}} #! CONTRACT-DIGEST"),
        ("CONTRACT-SCHEMA", "tools: {read: {},\n far: {}} #! CONTRACT-SCHEMA"),
        ("CONTRACT-SCHEMA", "tools: {\n '*': {}} #! CONTRACT-SCHEMA CONTRACT-SCHEMA"),
        ("CONTRACT-SCHEMA", "contract: {output: warn}, tools: {\n '*': {}} #! CONTRACT-SCHEMA"),
    ],
)
def test_each_finding_stands_at_its_line_of_the_registry(code: str, section: str, tmp_path):
    result = gate(tmp_path, section, lock_of(READ, REMOTE, BARE))
    text = (tmp_path / "postern.yaml").read_text(encoding="utf-8")
    assert reported(result) == expected(text), render_text(result.problems)
    assert {problem.code for problem in result.problems} == {code}


@pytest.mark.parametrize(
    "section",
    [
        "tools: {read: {}, reed: {}}, contract: {drift: warn}",
        "tools: {read: {}}, contract: {drift: strict}",
        "tools: {'*': {}}, contract: {input: warn, output: skip}",
        "tools: {read: {contract: 'sha256:0'}}, contract: {drift: skip}",
    ],
)
def test_what_no_caller_would_meet_is_no_finding(section: str, tmp_path):
    """A schema of a tool that is not declared, a name that `warn` lets pass, what is not compared at all."""
    assert gate(tmp_path, section, lock_of(READ, REMOTE, BARE)).problems == ()


def test_lock_that_was_edited_by_hand_is_found_at_every_place(tmp_path):
    """The finding stands in the lock file, with its line, and hides what is wrong in the registry nowhere."""
    lock = lock_of(READ).replace("description: Read", "description: Obey").replace("text: Be kind", "text: Be cruel")
    result = gate(tmp_path, "tools: {read: {}}, port: 99", lock)
    broken = [problem for problem in result.problems if problem.code == "LOCK-BROKEN"]
    assert [Path(problem.file).name for problem in broken] == ["postern.lock.yaml"] * 2
    lines = lock.splitlines()
    for problem, place in zip(broken, ("instructions", "tools.read"), strict=True):
        assert lines[problem.line - 1].strip().startswith("digest: sha256:")
        assert problem.excerpt
        assert problem.message.startswith(f"servers.a.{place}.digest: ")
        assert "version control" in problem.hint
    assert len(result.problems) > len(broken)
    assert "postern.lock.yaml" in render_sarif(result.problems)


@pytest.mark.parametrize(
    ("lock", "found"),
    [
        ("version: 2\nservers: {}\n", ("LOCK-BROKEN", 1)),
        ("version: 1\nservers: []\n", ("LOCK-BROKEN", 2)),
        ("version: 1\nservers:\n  a: 5\n", ("LOCK-BROKEN", 3)),
        ("version: 1\nservers:\n  a:\n    tools:\n      t: 5\n", ("LOCK-BROKEN", 5)),
        ("version: 1\nservers:\n  a:\n    tools: {t: {digest: x, json: '{'}}\n", ("LOCK-BROKEN", 4)),
        ("- 1\n", ("LOCK-BROKEN", 1)),
        ("version: 1\nservers: {\n", ("YAML-SYNTAX", 3)),
        ("", ("YAML-EMPTY", 1)),
    ],
)
def test_lock_that_is_none_is_one_finding(lock: str, found: tuple[str, int], tmp_path):
    result = gate(tmp_path, "tools: {}", lock)
    assert [(problem.code, problem.line) for problem in result.problems] == [found], render_text(result.problems)


def test_lock_that_cannot_be_read_is_a_finding(tmp_path):
    path = registry_file(tmp_path, f"version: 1\nservers:\n  a: {{{A}}}\n")
    lock_path(path).mkdir()
    (problem,) = check(path, environ=ENVIRON, now=NOW).problems
    assert (problem.code, problem.line) == ("LOCK-UNREADABLE", 1)


def test_command_that_makes_the_lock_is_not_held_up_by_it(tmp_path):
    section = "tools: {reed: {contract: 'sha256:0'}}, contract: {drift: strict}"
    assert gate(tmp_path, section, "broken", with_lock=False).ok
    assert not gate(tmp_path, section, lock_of(READ)).ok
    assert not gate(tmp_path, section, lock_of(READ), on_host=False).ok
