"""Environments from lock files: made once, made again when something changed, and honest about failure."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor_plugin.up.environments import Environment, InstallError, count_pins, ensure
from supervisor_plugin.up.install import main, progress_line

ROOT = Path(__file__).parents[4]


def silent(_what: str, _done: int, _total: int) -> None:
    pass


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """An environment of no package at all: quick to make, and made by the same steps."""
    (tmp_path / "nothing.txt").write_text("# nothing\n")
    return Environment(tmp_path / "env", (tmp_path / "nothing.txt",))


def prefix_of(environment: Environment) -> str:
    command = [str(environment.python), "-c", "import sys; print(sys.prefix)"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.anyio
async def test_environment_is_made_once_and_runs(environment: Environment) -> None:
    assert await ensure(environment, silent)
    assert prefix_of(environment) == str(environment.directory)
    assert environment.is_current()
    assert not await ensure(environment, silent)


@pytest.mark.anyio
async def test_changed_lock_file_makes_it_stale(environment: Environment) -> None:
    await ensure(environment, silent)
    environment.locks[0].write_text("# something else\n")
    assert not environment.is_current()
    assert await ensure(environment, silent)


@pytest.mark.anyio
async def test_installation_that_was_cut_off_begins_anew(environment: Environment) -> None:
    """Files of a half-written package are not believed."""
    await ensure(environment, silent)
    environment.unfinished.touch()
    leftover = environment.directory / "leftover"
    leftover.touch()
    assert not environment.is_current()
    assert await ensure(environment, silent)
    assert not leftover.exists()


@pytest.mark.anyio
async def test_broken_interpreter_is_replaced(environment: Environment) -> None:
    """The Python that it was made from is gone."""
    await ensure(environment, silent)
    environment.python.unlink()
    environment.python.symlink_to("gone")
    assert await ensure(environment, silent)
    assert environment.is_current()


@pytest.mark.anyio
async def test_package_without_a_hash_is_not_installed(environment: Environment) -> None:
    """The reason is pip's own, and a later try begins anew."""
    environment.locks[0].write_text("pip==1.0\n")
    with pytest.raises(InstallError, match="hash"):
        await ensure(environment, silent)
    assert not environment.is_current()


def test_packages_for_other_systems_are_not_counted() -> None:
    lock = "a==1 \\\n    --hash=sha256:00\nb==2 ; sys_platform == 'win32' \\\nc==3 ; python_full_version >= '3.12' and sys_platform == 'emscripten' \\\nd==4 ; sys_platform != 'emscripten' \\\n"
    assert count_pins(lock) == 2


def test_command_line_says_why_and_ends_with_1(tmp_path: Path, capfd) -> None:
    (tmp_path / "bad.txt").write_text("pip==1.0\n")
    assert main([str(tmp_path / "env"), str(tmp_path / "bad.txt")]) == 1
    assert "cannot install" in capfd.readouterr().err


def test_progress_without_a_terminal_is_one_line_per_stage() -> None:
    stream = io.StringIO()
    show = progress_line(".venv", stream)
    for what, done in (("creating", 0), ("click", 1), ("rich", 2), ("unpacking", 3), ("unpacking", 3)):
        show(what, done, 3)
    assert stream.getvalue().splitlines() == [".venv: creating (3 packages)", ".venv: unpacking (3 packages)"]


def test_installer_needs_the_standard_library_only() -> None:
    """`scripts/up` runs it before anything is installed."""
    program = "import sys; sys.path.insert(0, sys.argv[1]); import supervisor_plugin.up.install"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, str(ROOT)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.anyio
async def test_directory_that_cannot_be_made_is_named(environment: Environment) -> None:
    blocked = Environment(environment.locks[0] / "env", environment.locks)
    with pytest.raises(InstallError, match="env: cannot make"):
        await ensure(blocked, silent)
