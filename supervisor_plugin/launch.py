"""`postern exec NAME`: the program of a server under supervisord. It prepares the process and becomes the server.

The server gets its declared variables and nothing else of ours: no secret of another server, no database address, no
way to supervisord. Secrets are resolved here, at the last moment, and live only in the new process.
"""

import contextlib
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import click

from registry.models import Server
from registry.secrets import SecretError, resolve_variable
from supervisor_plugin.isolation import (
    IsolationError,
    Limits,
    User,
    apply_limits,
    become,
    current_user,
    die_with,
    find_user,
    restore_signals,
)
from supervisor_plugin.names import EXIT_CONFIG, EXIT_NOT_EXECUTABLE, LAUNCHER_PREFIX, PROXY
from supervisor_plugin.paths import Paths, create_private
from supervisor_plugin.processes import FLEET_MARK, RUN_MARK, SERVER_MARK, start_ticks
from supervisor_plugin.sections import Section, read_section
from supervisor_plugin.settings import Settings

LOOPBACK = "127.0.0.1"
TOKEN_BYTES = 32


class LaunchError(Exception):
    """The server cannot be started as declared; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything that becomes the process. The environment holds secrets and is no part of the repr.

    Without a `cwd` it starts in `base`, the registry's directory as it is now: supervisord's own may be one that was
    replaced since.
    """

    argv: tuple[str, ...]
    environment: "Environment"
    base: str
    cwd: str | None
    limits: Limits
    user: User


class Environment(dict[str, str]):
    """Variables whose values never show themselves."""

    def __repr__(self) -> str:
        return f"Environment({', '.join(sorted(self))})"


def fill_in(text: str, server: Server) -> str:
    """Put port and host where an argument or a variable of an HTTP server asks for them."""
    if server.transport != "http":
        return text
    return text.replace("{port}", str(server.port)).replace("{host}", LOOPBACK)


def server_environment(
    section: Section, inherited: Mapping[str, str], user: User, markers: Mapping[str, str]
) -> Environment:
    """Return the declared variables, the few that any program needs, and the marks by which the process is ours."""
    server = section.server
    environment = Environment(
        PATH=inherited.get("PATH", os.defpath), HOME=user.home, USER=user.name, LOGNAME=user.name, LANG="C.UTF-8"
    )
    for name, variable in server.env.items():
        try:
            secret = resolve_variable(
                name, variable, base=Path(section.base), environ=inherited, allow_literal=section.dev
            )
        except SecretError as error:
            raise LaunchError(f"servers.{server.name}.env.{name}: {error}") from error
        if secret is not None:
            environment[name] = fill_in(os.fsdecode(secret.reveal()), server)
    environment.update(markers)
    return environment


def server_argv(server: Server, paths: Paths, token: str) -> tuple[str, ...]:
    """Return the server's own command, or the bridge around it for a server that speaks stdio."""
    if server.transport == "http":
        return tuple(fill_in(word, server) for word in server.command)
    bridge = server.bridge
    options = {
        "--name": server.name,
        "--port": str(server.port),
        "--path": server.path,
        "--token-file": token,
        "--modern-child": bridge.modern_child,
        "--max-children": str(bridge.max_children),
        "--idle-s": f"{bridge.idle_s:g}",
        "--start-timeout-s": f"{bridge.start_timeout_s:g}",
    }
    words = tuple(word for pair in options.items() for word in pair)
    return (paths.python, "-I", "-m", "proxy.bridge", *words, "--", *_limited(server, paths), *server.command)


def declared_limits(server: Server) -> Limits:
    return Limits(server.lifecycle.memory_bytes, server.lifecycle.open_files)


def _limited(server: Server, paths: Paths) -> tuple[str, ...]:
    """Put the limits on each child of the bridge; the bridge itself is ours and holds many of them."""
    limits = declared_limits(server)
    if limits == Limits():
        return ()
    memory, files = limits.memory_bytes or 0, limits.open_files or 0
    return (paths.python, "-I", "-m", "supervisor_plugin.limited", str(memory), str(files), "--")


def ensure_bridge_token(paths: Paths, server: str) -> Path:
    """Create the bridge's token if it is missing: random, readable by its owner only."""
    paths.bridge.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = paths.bridge_token(server)
    if not path.exists():
        create_private(path, secrets.token_urlsafe(TOKEN_BYTES) + "\n")
    return path


def plan_launch(section: Section, settings: Settings, inherited: Mapping[str, str], token: str = "") -> Launch:
    """Decide what the process becomes; raises LaunchError or IsolationError."""
    server = section.server
    if server.type != "internal" or not server.command or server.port is None:
        raise LaunchError(f"servers.{server.name} has no program to start")
    user = find_user(server.lifecycle.user) or current_user()
    return Launch(
        argv=server_argv(server, settings.paths, token),
        environment=server_environment(section, inherited, user, markers(settings.instance, server.name)),
        base=section.base,
        cwd=server.cwd,
        limits=declared_limits(server) if server.transport == "http" else Limits(),
        user=user,
    )


def markers(instance: str, name: str) -> dict[str, str]:
    """Return the marks of this process: exec keeps its pid and start time, so that they name the launch for good."""
    pid = os.getpid()
    return {FLEET_MARK: instance, SERVER_MARK: name, RUN_MARK: f"{pid}-{start_ticks(pid)}"}


def launch_of_proxy(argv: Sequence[str], settings: Settings, inherited: Mapping[str, str]) -> Launch:
    """Return the proxy: our own program, which resolves the secrets of the whole fleet and so keeps the environment."""
    kept = {name: value for name, value in inherited.items() if not name.startswith("SUPERVISOR_")}
    environment = Environment(kept | markers(settings.instance, PROXY))
    return Launch(tuple(argv), environment, str(settings.paths.registry.parent), None, Limits(), current_user())


def execute(launch: Launch, parent: int) -> NoReturn:
    """Become the server; raises OSError if it cannot be executed."""
    restore_signals()
    with contextlib.suppress(OSError):  # before `become`: like supervisord's own, it need not be open to that user
        os.chdir(launch.base)
    become(launch.user)
    if launch.cwd is not None:
        os.chdir(launch.cwd)
    apply_limits(launch.limits)
    die_with(parent)
    os.execvpe(launch.argv[0], launch.argv, launch.environment)  # noqa: S606 - a vector of arguments, and no shell


def main(arguments: Sequence[str]) -> NoReturn:
    """Run `postern exec NAME`; ends with 78 for what the registry must change, 126 for what cannot be executed."""
    parent, name = os.getppid(), arguments[0]
    try:
        settings = Settings.from_env(os.environ)
        if name == PROXY:
            execute(launch_of_proxy(arguments[2:], settings, os.environ), parent)
        section = _read_section(settings, name)
        token = token_for(section, settings)
        execute(plan_launch(section, settings, os.environ, token), parent)
    except (LaunchError, IsolationError) as error:
        _end(f"{error}", EXIT_CONFIG)
    except OSError as error:
        _end(f"servers.{name}: {error.strerror}: {error.filename or ''}", EXIT_NOT_EXECUTABLE)


def _read_section(settings: Settings, name: str) -> Section:
    try:
        return read_section(settings.paths, name)
    except (OSError, ValueError) as error:
        raise LaunchError(f"no accepted section of servers.{name} in {settings.paths.sections}") from error


def token_for(section: Section, settings: Settings) -> str:
    """Return the path under which the bridge reads its token; another user than ours reads it through a descriptor."""
    server = section.server
    if server.transport != "stdio":
        return ""
    path = ensure_bridge_token(settings.paths, server.name)
    user = find_user(server.lifecycle.user)
    if user is None or user.uid == os.geteuid():
        return str(path)
    reader, writer = os.pipe()
    os.write(writer, path.read_bytes())
    os.close(writer)
    os.fchown(reader, user.uid, user.gid)
    os.set_inheritable(reader, True)
    return f"/dev/fd/{reader}"


def _end(message: str, code: int) -> NoReturn:
    sys.stderr.write(f"{LAUNCHER_PREFIX}{message}\n")
    sys.exit(code)


@click.command("exec")
@click.argument("name")
def command(name: str) -> None:
    """Become the process of one server; supervisord calls this."""
    main([name])


if __name__ == "__main__":
    main(sys.argv[1:])
