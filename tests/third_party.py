"""Made by others and not modified: MCP servers as the demo installs them, packages of the protocol's authors."""

import asyncio
import shutil
from pathlib import Path

import pytest

from supervisor_plugin.up.environments import Environment, InstallError, ensure
from tests.conformance import suite

ROOT = Path(__file__).parents[1]


def _environment(name: str) -> Environment:
    lock = ROOT / "deploy" / "demo" / f"requirements-{name}.txt"
    return Environment(ROOT / ".postern" / "servers" / name, (lock,))


def install(name: str) -> Path:
    """Return the directory of the server's environment; the next call finds it again."""
    environment = _environment(name)
    try:
        asyncio.run(ensure(environment, lambda *_: None))
    except InstallError as error:
        pytest.fail(f"{name} cannot be installed: {error}")
    return environment.directory


@pytest.fixture(scope="session")
def time_server() -> list[str]:
    """The command of mcp-server-time."""
    return [str(install("time") / "bin" / "mcp-server-time"), "--local-timezone", "UTC"]


@pytest.fixture(scope="session")
def git_server() -> list[str]:
    """The command of mcp-server-git."""
    if shutil.which("git") is None:
        pytest.skip("mcp-server-git needs the git executable, which this machine does not have")
    return [str(install("git") / "bin" / "mcp-server-git")]


@pytest.fixture(scope="session")
def official_packages() -> Path:
    """The folder of the npm packages of the protocol's authors; Node itself comes from a pip wheel."""
    node = Environment(suite.HOME, (ROOT / "tests/conformance/requirements.txt",))
    try:
        asyncio.run(ensure(node, lambda *_: None))
        suite.install()
    except (InstallError, suite.InstallError) as error:
        pytest.skip(f"the official suite cannot be installed: {str(error).strip()[-500:]}")
    return suite.OFFICIAL
