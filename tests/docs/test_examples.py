"""The examples check as the documentation says."""

import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest
import yaml

from registry.editor_schema import editor_schema
from registry.gate import check
from registry.models import Fleet
from registry.secrets import split_reference

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "deploy/examples"
GUIDE = (ROOT / "docs/registry.md").read_text(encoding="utf-8")
NOW = datetime(2026, 11, 23, tzinfo=UTC)
MISTAKES = {"KEY_A": "a" * 32, "KEY_B": "b" * 32, "KEY_C": "c" * 32, "KEY_SHORT": "short"}


def every_reference(path: Path) -> dict[str, str]:
    """Return an environment in which each `env:` reference of a file and its includes has a value of its own."""
    texts = [file.read_text(encoding="utf-8") for file in path.parent.rglob("*.yaml")]
    names = {name for text in texts for name in re.findall(r"env:([A-Z0-9_]+)", text)}
    return {name: f"{name:-<64}" for name in names}


def found_anywhere(cmd: str, *, path: str | None = None) -> str | None:
    return f"/usr/bin/{cmd}" if path is None else f"{path}/{cmd}"


@pytest.mark.parametrize("name", ["minimal", "fleet"])
def test_an_example_passes_the_gate_where_its_programs_and_secrets_are(name: str):
    path = EXAMPLES / name / "postern.yaml"
    result = check(path, environ=every_reference(path), which=found_anywhere, now=NOW)
    assert result.ok, result.problems


@pytest.mark.parametrize("name", ["minimal", "fleet"])
def test_an_example_passes_offline_on_any_machine(name: str):
    result = check(EXAMPLES / name / "postern.yaml", environ={}, now=NOW, on_host=False)
    assert result.ok, result.problems


def test_the_fleet_has_ten_servers_of_all_kinds():
    fleet = check(EXAMPLES / "fleet/postern.yaml", environ={}, now=NOW, on_host=False).fleet
    assert isinstance(fleet, Fleet)
    servers = list(fleet.servers.values())
    assert len(servers) == 10
    assert {server.type for server in servers} == {"internal", "external"}
    assert {server.transport for server in servers} == {"http", "stdio"}
    assert {server.oauth.required for server in servers} == {True, False}
    assert any(server.dev_only for server in servers)
    assert any(not server.enabled for server in servers)
    assert any(server.oauth.jwks for server in servers)
    assert any(len(server.oauth.keys) > 1 for server in servers)
    assert fleet.trusted_proxies
    assert fleet.hooks
    assert fleet.agents


REGISTRIES = sorted(path for path in EXAMPLES.rglob("*.yaml") if not path.name.endswith(".lock.yaml"))


@pytest.mark.parametrize("path", REGISTRIES, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_an_editor_agrees_with_the_gate(path: Path):
    validator = jsonschema.Draft7Validator(editor_schema())
    text = path.read_text(encoding="utf-8")
    if "every-mistake" in path.parts:
        text = re.sub(r"!!str |&fleet |^ *<<:.*\n|, \? \[rate\] : 5", "", text, flags=re.MULTILINE)
    assert validator.is_valid(yaml.safe_load(text)) == ("every-mistake" not in path.parts)


def test_no_example_holds_a_secret():
    for path in (EXAMPLES / "minimal", EXAMPLES / "fleet"):
        for file in path.rglob("*.yaml"):
            for secret in re.findall(r"\bsecret: \"([^\"]*)\"", file.read_text(encoding="utf-8")):
                assert split_reference(secret) is not None


@pytest.fixture(scope="module")
def every_mistake(tmp_path_factory) -> str:
    """What the command prints in a copy of the example, with the copy's place written as /srv/postern."""
    place = tmp_path_factory.mktemp("every-mistake")
    shutil.copy(EXAMPLES / "every-mistake/postern.yaml", place)
    (place / "postern.yaml").chmod(0o644)
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **MISTAKES}
    command = [sys.executable, "-m", "registry.cli", "check"]
    done = subprocess.run(command, cwd=place, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == ""
    return done.stdout.replace(str(place), "/srv/postern")


def block_after(marker: str) -> str:
    match = re.search(re.escape(f"<!-- {marker} -->") + r"\n```\w+\n(.*?)```\n", GUIDE, flags=re.DOTALL)
    assert match, marker
    return match[1]


def test_the_guide_shows_what_the_command_says_about_every_mistake(every_mistake: str):
    assert block_after("output: postern check, in deploy/examples/every-mistake") == every_mistake


def test_the_guide_shows_the_smallest_fleet_as_it_is():
    name = "deploy/examples/minimal/postern.yaml"
    assert block_after(f"file: {name}") == (ROOT / name).read_text(encoding="utf-8")


def test_every_mistake_that_can_stand_beside_others_is_in_the_example(every_mistake: str):
    from tests.docs.test_problems import codes_in_sources

    alone = {
        "CONTRACT-UNKNOWN", "LOCK-BROKEN", "LOCK-UNREADABLE",
        "FILE-UNREADABLE", "NAME-DUPLICATE", "PERMISSION-SIZE", "PORT-WINDOW-EMPTY", "TOO-MANY-PROBLEMS",
        "YAML-DOCUMENTS", "YAML-EMPTY", "YAML-ENCODING", "YAML-SYNTAX", "YAML-TOO-LARGE",
    }  # fmt: skip
    shown = set(re.findall(r"^postern\.yaml:\d+:\d+: (\S+)", every_mistake, flags=re.MULTILINE))
    assert shown == codes_in_sources() - alone


def test_each_mistake_is_shown_on_its_own_line(every_mistake: str):
    lines = (EXAMPLES / "every-mistake/postern.yaml").read_text(encoding="utf-8").split("\n")
    shown = re.findall(r"^postern\.yaml:(\d+):(\d+): .*\n +(\d+) \| (.*)\n", every_mistake, flags=re.MULTILINE)
    assert len(shown) > 60
    for number, _, margin, text in shown:
        assert number == margin
        assert lines[int(number) - 1].startswith(text.split("**********")[0])
