"""`postern exec NAME`: the program of a server under supervisord. It prepares the process and becomes the server.

The server gets its declared variables and nothing else of ours: no secret of another server, no database address, no way to
supervisord. Secrets are resolved here, at the last moment, and live only in the new process.
"""

import os
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from registry.models import Server
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
from supervisor_plugin.paths import Paths, create_private
from supervisor_plugin.processes import start_ticks
from supervisor_plugin.settings import Settings

EXIT_CONFIG = 78
EXIT_NOT_EXECUTABLE = 126
LOOPBACK = "127.0.0.1"
ERROR_PREFIX = "postern exec: "
TOKEN_BYTES = 32

Resolve = Callable[[str], str]


class LaunchError(Exception):
    """The server cannot be started as declared; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything that becomes the process. The environment holds secrets and is no part of the repr."""

    argv: tuple[str, ...]
    environment: "Environment"
    cwd: str | None
    limits: Limits
    user: User


class Environment(dict[str, str]):
    """Variables whose values never show themselves."""

    def __repr__(self) -> str:
        return f"Environment({', '.join(sorted(self))})"


def fill_in(text: str, port: int) -> str:
    """Put port and host where an argument or a variable asks for them."""
    return text.replace("{port}", str(port)).replace("{host}", LOOPBACK)


def server_environment(
    server: Server, inherited: Mapping[str, str], user: User, markers: Mapping[str, str], resolve: Resolve
) -> Environment:
    """Return the declared variables, the few that any program needs to run, and the marks by which it is known as ours."""
    environment = Environment(
        PATH=inherited.get("PATH", os.defpath), HOME=user.home, USER=user.name, LOGNAME=user.name, LANG="C.UTF-8"
    )
    for name, variable in server.env.items():
        value = _value(server, name, inherited, resolve)
        if value is not None:
            environment[name] = fill_in(value, server.port or 0) if server.transport == "http" else value
        elif variable.required:
            raise LaunchError(f"servers.{server.name}.env.{name} resolves to nothing; set it, or say required: false")
    environment.update(markers)
    return environment


def _value(server: Server, name: str, inherited: Mapping[str, str], resolve: Resolve) -> str | None:
    reference = server.env[name].value
    return inherited.get(name) if reference is None else resolve(reference)


def server_argv(server: Server, paths: Paths, token: Path | str) -> tuple[str, ...]:
    """Return the server's own command, or the bridge around it for a server that speaks stdio."""
    if server.transport == "http":
        return tuple(fill_in(word, server.port or 0) for word in server.command)
    bridge = server.bridge
    options = {
        "--name": server.name,
        "--port": str(server.port),
        "--path": server.path,
        "--token-file": str(token),
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


def plan_launch(
    server: Server, settings: Settings, inherited: Mapping[str, str], resolve: Resolve, token: Path | str
) -> Launch:
    """Decide what the process becomes; raises LaunchError or IsolationError."""
    if server.type != "internal" or not server.command or server.port is None:
        raise LaunchError(f"servers.{server.name} has no program to start")
    user = find_user(server.lifecycle.user) or current_user()
    pid = os.getpid()
    markers = {
        "POSTERN_FLEET": settings.instance,
        "POSTERN_SERVER": server.name,
        "POSTERN_RUN": f"{pid}-{start_ticks(pid)}",
    }
    return Launch(
        argv=server_argv(server, settings.paths, token),
        environment=server_environment(server, inherited, user, markers, resolve),
        cwd=server.cwd,
        limits=declared_limits(server) if server.transport == "http" else Limits(),
        user=user,
    )


def execute(launch: Launch, parent: int) -> NoReturn:
    """Become the server; raises OSError if it cannot be executed."""
    restore_signals()
    become(launch.user)
    if launch.cwd is not None:
        os.chdir(launch.cwd)
    apply_limits(launch.limits)
    die_with(parent)
    os.execvpe(launch.argv[0], launch.argv, launch.environment)  # noqa: S606 - a vector of arguments, and no shell


def main(name: str) -> NoReturn:
    """Run `postern exec NAME`; ends with 78 for what the registry must change, 126 for what cannot be executed."""
    parent = os.getppid()
    try:
        settings = Settings.from_env(os.environ)
        server, resolve = _declared(settings, name)
        token = _token_for(server, settings) if server.transport == "stdio" else ""
        launch = plan_launch(server, settings, dict(os.environ), resolve, token)
        execute(launch, parent)
    except (LaunchError, IsolationError) as error:
        _end(f"{error}", EXIT_CONFIG)
    except OSError as error:
        _end(f"servers.{name}: {error.strerror}: {error.filename or ''}", EXIT_NOT_EXECUTABLE)


def _end(message: str, code: int) -> NoReturn:
    sys.stderr.write(f"{ERROR_PREFIX}{message}\n")
    sys.exit(code)
