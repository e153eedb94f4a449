"""`postern up` and `postern down`: click's edge around `run.up` and `detach`."""

import asyncio
import os
import sys
from pathlib import Path

import click
from rich.console import Console

from registry.check_cli import DEFAULT_FILE, state_directory
from supervisor_plugin.up.detach import detach
from supervisor_plugin.up.detach import down as stop_detached
from supervisor_plugin.up.display import Display
from supervisor_plugin.up.errors import UpError
from supervisor_plugin.up.run import Options, up

_registry = click.option(
    "-f",
    "--file",
    "--registry",
    "registry",
    type=click.Path(path_type=Path),
    envvar="POSTERN_REGISTRY",
    help="Default: postern.yaml here.",
)
_state = click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    envvar="POSTERN_STATE_DIR",
    help="Default: .postern beside the registry.",
)


@click.command("up")
@_registry
@click.option("--demo", is_flag=True, help="Bring up the demo fleet instead: three published MCP servers.")
@_state
@click.option("--database-url", envvar="DATABASE_URL", help="Any PostgreSQL 15+; default: an embedded one.")
@click.option("--detach", "is_detached", is_flag=True, help="Come back when all is up; `postern down` ends it.")
@click.option("--detached-child", is_flag=True, hidden=True)
def command(
    registry: Path | None,
    state_dir: Path | None,
    database_url: str | None,
    *,
    demo: bool,
    is_detached: bool,
    detached_child: bool,
) -> None:
    """Bring up a whole fleet here: PostgreSQL, supervisord, the proxy and every server; Ctrl-C ends it.

    Exit codes: 0 stopped, 1 findings in the registry, 2 usage, 3 something cannot start or has ended, 130 interrupted.
    """
    options = _options(registry, state_dir, database_url, demo=demo, is_detached=detached_child)
    try:
        sys.exit(_detached(options) if is_detached else _attached(options))
    except UpError as error:
        click.echo(f"\n{error}", err=True)
        sys.exit(error.exit_code)


@click.command("down")
@_registry
@_state
def down(registry: Path | None, state_dir: Path | None) -> None:
    """End what `postern up` keeps running here, and wait until nothing is left."""
    state = _state_of(registry, state_dir)
    try:
        pid = stop_detached(state)
    except UpError as error:
        click.echo(f"{error}", err=True)
        sys.exit(error.exit_code)
    click.echo(f"nothing is up in {state}" if pid is None else f"stopped (pid {pid})")


def _state_of(registry: Path | None, state_dir: Path | None) -> Path:
    return state_dir.absolute() if state_dir else state_directory(registry or Path(DEFAULT_FILE), os.environ)


def _attached(options: Options) -> int:
    display = Display(Console(stderr=True))
    with display:
        return asyncio.run(up(options, display, click.echo))


def _detached(options: Options) -> int:
    where = ("--demo",) if options.registry is None else ("--registry", str(options.registry))
    arguments = (*where, "--state-dir", str(options.state), "--detached-child")
    click.echo(detach(arguments, options.state, sys.stderr))
    return 0


def _options(
    registry: Path | None, state_dir: Path | None, database_url: str | None, *, demo: bool, is_detached: bool
) -> Options:
    if demo and registry is not None:
        raise click.UsageError("--demo brings its own registry file; leave one of the two out")
    if not demo:
        registry = (registry or Path(DEFAULT_FILE)).absolute()
        if not registry.exists():
            raise click.UsageError(f"{registry} does not exist: name your registry with -f FILE, or try --demo")
    return Options(
        registry=registry,
        state=_state_of(registry, state_dir),
        database_url=database_url or None,
        environ=os.environ,
        is_detached=is_detached,
    )
