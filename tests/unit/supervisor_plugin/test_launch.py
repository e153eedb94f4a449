"""What a server's process becomes: environment, command, limits, user."""

import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from registry.models import Server
from supervisor_plugin.isolation import IsolationError, find_user
from supervisor_plugin.launch import LaunchError, ensure_bridge_token, plan_launch, server_argv
from supervisor_plugin.paths import Paths
from supervisor_plugin.sections import Section
from supervisor_plugin.settings import Settings

OURS = {
    "DATABASE_URL": "postgresql://u:secret@h/d",
    "POSTERN_DSN_FILE": "/run/dsn",
    "SUPERVISOR_SERVER_URL": "unix:///run/s.sock",
    "OTHER_SERVERS_KEY": "key",
    "PATH": "/usr/bin",
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(Paths(state=tmp_path, registry=tmp_path / "postern.yaml"), "fleet-1", "host")


def section(dev: bool = False, **changes: Any) -> Section:
    server = Server.model_validate({"name": "alpha", "port": 5001, "command": ["serve", "{port}"], **changes})
    return Section(server=server, base="/nowhere", dev=dev)


def test_nothing_of_ours_reaches_the_server(settings: Settings):
    launch = plan_launch(section(), settings, OURS)
    entry = pwd.getpwuid(os.getuid())
    assert dict(launch.environment) == {
        "PATH": "/usr/bin",
        "HOME": entry.pw_dir,
        "USER": entry.pw_name,
        "LOGNAME": entry.pw_name,
        "LANG": "C.UTF-8",
        "POSTERN_FLEET": "fleet-1",
        "POSTERN_SERVER": "alpha",
        "POSTERN_RUN": launch.environment["POSTERN_RUN"],
    }
    assert launch.environment["POSTERN_RUN"].startswith(f"{os.getpid()}-")


def test_references_are_resolved_and_never_shown(settings: Settings):
    env = {
        "KEY": {"value": "env:OTHER_SERVERS_KEY", "secret": True},
        "PLAIN": {"value": "x"},
        "PATH": {"value": "/opt"},
    }
    launch = plan_launch(section(env=env), settings, OURS)
    assert (launch.environment["KEY"], launch.environment["PLAIN"]) == ("key", "x")
    assert launch.environment["PATH"] == "/opt"
    assert "key" not in repr(launch)


def test_the_marks_cannot_be_declared_away(settings: Settings):
    launch = plan_launch(section(env={"POSTERN_FLEET": {"value": "another"}}), settings, OURS)
    assert launch.environment["POSTERN_FLEET"] == "fleet-1"


def test_a_required_variable_that_leads_nowhere_is_refused(settings: Settings):
    with pytest.raises(LaunchError, match=r"servers\.alpha\.env\.KEY"):
        plan_launch(section(env={"KEY": {"value": "env:NOT_SET_AT_ALL"}}), settings, OURS)
    launch = plan_launch(section(env={"KEY": {"value": "env:NOT_SET_AT_ALL", "required": False}}), settings, OURS)
    assert "KEY" not in launch.environment


def test_port_and_host_are_filled_in_for_a_server_that_speaks_http(settings: Settings):
    env = {"BIND": {"value": "{host}:{port}"}}
    launch = plan_launch(section(env=env), settings, OURS)
    assert launch.argv == ("serve", "5001")
    assert launch.environment["BIND"] == "127.0.0.1:5001"


def test_a_stdio_server_is_put_behind_the_bridge_unchanged(settings: Settings):
    bridge = {"modern_child": "per-principal", "max_children": 3, "idle_s": 7, "start_timeout_s": 9}
    made = section(transport="stdio", command=["serve", "{port}"], bridge=bridge)
    argv = plan_launch(made, settings, OURS, "/run/token").argv
    assert argv[1:4] == ("-I", "-m", "proxy.bridge")
    assert argv[4:] == (
        "--name", "alpha", "--port", "5001", "--path", "/mcp", "--token-file", "/run/token",
        "--modern-child", "per-principal", "--max-children", "3", "--idle-s", "7", "--start-timeout-s", "9",
        "--", "serve", "{port}",
    )  # fmt: skip


def test_limits_of_a_stdio_server_are_those_of_each_child(settings: Settings):
    made = section(transport="stdio", lifecycle={"memory_bytes": 1000, "open_files": 50})
    launch = plan_launch(made, settings, OURS, "t")
    assert launch.limits.memory_bytes is None
    tail = launch.argv[launch.argv.index("--") + 1 :]
    assert tail[1:] == ("-I", "-m", "supervisor_plugin.limited", "1000", "50", "--", "serve", "{port}")


def test_the_options_are_those_that_the_bridge_understands(settings: Settings):
    from importlib import import_module

    argv = server_argv(section(transport="stdio").server, settings.paths, "t")
    options = import_module("proxy.bridge.options").parse_options(list(argv[4:]))
    assert (options.name, options.port, options.argv) == ("alpha", 5001, ("serve", "{port}"))


def test_the_bridge_token_is_random_private_and_made_once(settings: Settings):
    path = ensure_bridge_token(settings.paths, "alpha")
    token = path.read_text()
    assert len(token.strip()) >= 43
    assert path.stat().st_mode & 0o777 == 0o600
    assert ensure_bridge_token(settings.paths, "alpha").read_text() == token
    assert ensure_bridge_token(settings.paths, "beta").read_text() != token


def test_an_unknown_user_is_refused_by_name():
    with pytest.raises(IsolationError, match=r"lifecycle\.user: this system has no user nobody-like-this"):
        find_user("nobody-like-this")
    assert find_user(None) is None


def test_what_has_no_program_is_not_launched(settings: Settings):
    with pytest.raises(LaunchError, match="no program"):
        plan_launch(section(type="external", command=[], endpoint="https://x/mcp"), settings, OURS)
