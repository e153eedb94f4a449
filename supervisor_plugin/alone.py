"""`postern run NAME`: one internal server without the fleet, started as the fleet would start it.

For `postern lock --start`, which pins a server before the gate lets a fleet with it begin, and for looking at a server
before anybody may call it. It gets its declared variables and nothing else; no proxy stands before it.
"""

import os
import sys
from typing import NoReturn

import click

from registry.check_cli import gate_or_exit, registry_option, state_directory
from registry.models import Fleet, Server
from supervisor_plugin import ports
from supervisor_plugin.isolation import IsolationError
from supervisor_plugin.launch import LaunchError, execute, plan_launch, token_for
from supervisor_plugin.paths import PathError, prepare
from supervisor_plugin.sections import section_of
from supervisor_plugin.settings import Settings

EXIT_CANNOT = 3


@click.command("run")
@click.argument("name")
@registry_option
def command(name: str, file: str | None) -> None:
    """Run the internal server NAME here until Ctrl-C, as the fleet would run it, but without fleet and proxy.

    Exit codes: those of the server; 1 findings in the registry, 2 usage, 3 it cannot be started.
    """
    parent = os.getppid()
    path, result = gate_or_exit(file, with_lock=False)
    assert result.fleet is not None  # noqa: S101 -- the gate is passed
    server = _internal(result.fleet, name)
    if server.port is not None and (holder := ports.holder(server.port)) is not None:
        _refuse(f"port {server.port} is taken by {holder}; does {name} run already?")
    state = state_directory(path, os.environ)
    settings = Settings.from_env({**os.environ, "POSTERN_STATE_DIR": str(state), "POSTERN_REGISTRY": str(path)})
    try:
        prepare(settings.paths)
        section = section_of(server, result.fleet, settings.paths)
        execute(plan_launch(section, settings, os.environ, token_for(section, settings)), parent)
    except (LaunchError, IsolationError, PathError) as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"servers.{name}: {error.strerror}: {error.filename or ''}")


def _internal(fleet: Fleet, name: str) -> Server:
    there = [server for server in fleet.enabled_servers() if server.type == "internal"]
    found = next((server for server in there if server.name == name), None)
    if found is None:
        known = ", ".join(server.name for server in there) or "none"
        raise click.UsageError(f"there is no internal server {name!r}; there are: {known}")
    return found


def _refuse(reason: str) -> NoReturn:
    click.echo(f"postern run: {reason}", err=True)
    sys.exit(EXIT_CANNOT)
