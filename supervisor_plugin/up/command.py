"""`postern up`: click's edge around `run.up`."""

import asyncio
import os
import sys
from pathlib import Path

import click
from rich.console import Console

from supervisor_plugin.up.display import Display
from supervisor_plugin.up.errors import UpError
from supervisor_plugin.up.run import Options, up

STATE = ".postern"
REGISTRY = "postern.yaml"


@click.command("up")
@click.option("-f", "--registry", type=click.Path(path_type=Path), envvar="POSTERN_REGISTRY", help="The registry file.")
@click.option("--demo", is_flag=True, help="Bring up the demo fleet instead: three published MCP servers.")
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    envvar="POSTERN_STATE_DIR",
    help="Default: .postern beside the file.",
)
@click.option("--database-url", envvar="DATABASE_URL", help="Any PostgreSQL 15+; default: an embedded one.")
def command(registry: Path | None, state_dir: Path | None, database_url: str | None, *, demo: bool) -> None:
    """Bring up a whole fleet here: PostgreSQL, supervisord, the proxy and every server; Ctrl-C ends it.

    Exit codes: 0 stopped, 1 findings in the registry, 2 usage, 3 something cannot start or has ended, 130 interrupted.
    """
    options = _options(registry, state_dir, database_url, demo=demo)
    display = Display(Console(stderr=True))
    try:
        with display:
            code = asyncio.run(up(options, display, click.echo))
    except UpError as error:
        click.echo(f"\n{error}", err=True)
        sys.exit(error.exit_code)
    sys.exit(code)


def _options(registry: Path | None, state_dir: Path | None, database_url: str | None, *, demo: bool) -> Options:
    if demo and registry is not None:
        raise click.UsageError("--demo brings its own registry file; leave one of the two out")
    if not demo:
        registry = (registry or Path(REGISTRY)).absolute()
        if not registry.exists():
            raise click.UsageError(f"{registry} does not exist: name your registry with -f FILE, or try --demo")
    beside = registry.parent if registry is not None else Path.cwd()
    state = (state_dir or beside / STATE).absolute()
    return Options(registry=registry, state=state, database_url=database_url or None, environ=os.environ)
