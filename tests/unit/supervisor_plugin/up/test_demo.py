"""The demo's registry file: written once, followed when nobody has touched it, kept when somebody has."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from supervisor_plugin.up.demo import demo_files, write_registry
from supervisor_plugin.up.display import Display


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def display(said) -> Display:
    return Display(Console(file=said))


def test_new_demo_gets_the_projects_file(tmp_path: Path, display: Display) -> None:
    path = write_registry(tmp_path, "version: 1\n", has_git=True, display=display)
    assert path.read_text() == "version: 1\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_untouched_copy_follows_the_project(tmp_path: Path, display: Display, said) -> None:
    """After an upgrade the demo is the new one."""
    write_registry(tmp_path, "version: 1\n", has_git=True, display=display)
    path = write_registry(tmp_path, "version: 1 # new\n", has_git=True, display=display)
    assert path.read_text() == "version: 1 # new\n"
    assert said.getvalue() == ""


def test_changed_copy_is_kept_and_said_to_be(tmp_path: Path, display: Display, said) -> None:
    """What a person wrote is not ours to replace."""
    path = write_registry(tmp_path, "version: 1\n", has_git=True, display=display)
    path.write_text("version: 1 # mine\n")
    write_registry(tmp_path, "version: 1 # new\n", has_git=True, display=display)
    assert path.read_text() == "version: 1 # mine\n"
    assert "has been changed" in said.getvalue()


def test_without_git_its_server_is_switched_off_and_comes_back_with_git(tmp_path: Path, display: Display) -> None:
    """mcp-server-git does not even start without the executable."""
    template = (demo_files() / "postern.yaml").read_text(encoding="utf-8")
    path = write_registry(tmp_path, template, has_git=False, display=display)
    assert "enabled: false # the git executable was not found" in path.read_text()
    assert write_registry(tmp_path, template, has_git=True, display=display).read_text() == template
