"""`postern up` and `postern down`: click's edge around `run.up` and `detach`."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Generator
from pathlib import Path

import click
from rich.console import Console

from registry.check_cli import DEFAULT_FILE, state_directory
from registry.output import FULL
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
@click.option("--ready-file", type=click.Path(path_type=Path), hidden=True)
def command(
    registry: Path | None,
    state_dir: Path | None,
    database_url: str | None,
    *,
    demo: bool,
    is_detached: bool,
    ready_file: Path | None,
) -> None:
    """Bring up a whole fleet here: PostgreSQL, supervisord, the proxy and every server; Ctrl-C ends it.

    Exit codes: 0 stopped (--detach: up), 1 findings in the registry, 2 usage, 3 something cannot start or has ended,
    130 interrupted before it was up.
    """
    options = _options(registry, state_dir, database_url, demo=demo, ready_file=ready_file)
    with _told(options.state):
        sys.exit(_detached(options) if is_detached else _attached(options))


@click.command("down")
@_registry
@_state
def down(registry: Path | None, state_dir: Path | None) -> None:
    """End what `postern up` keeps running here, and wait until nothing is left."""
    state = _state_of(registry, state_dir)
    with _told(state):
        click.echo(stop_detached(state))


@contextlib.contextmanager
def _told(state: Path) -> Generator[None]:
    """End with one sentence and the exit code where we give up, or where our files cannot be read or written."""
    try:
        yield
    except UpError as error:
        click.echo(f"\n{error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.filename is None and error.errno not in FULL:
            raise
        where = f"{error.filename}: " if error.filename is not None else ""
        advice = f"{state} must be a directory of this user, writable, with room left; --state-dir chooses another"
        with contextlib.suppress(OSError):
            click.echo(f"\n{where}{error.strerror}\n  ({advice})", err=True)
        os._exit(UpError.exit_code)  # what a full disk did not take would be written again, and change the exit code


def _absolute(path: Path) -> Path:
    """Return the path from the root on; without `..`, which leads through a directory that may be removed later."""
    return path.resolve() if ".." in path.parts else path.absolute()


def _state_of(registry: Path | None, state_dir: Path | None) -> Path:
    return _absolute(state_dir) if state_dir else state_directory(_absolute(registry or Path(DEFAULT_FILE)), os.environ)


def _attached(options: Options) -> int:
    display = Display(Console(stderr=True))
    with display:
        return asyncio.run(up(options, display, click.echo))


def _detached(options: Options) -> int:
    where = ("--demo",) if options.registry is None else ("--registry", str(options.registry))
    environ = dict(options.environ)
    environ.pop("DATABASE_URL", None)
    if options.database_url is not None:  # it holds a password, which no command line may show
        environ["DATABASE_URL"] = options.database_url
    click.echo(detach((*where, "--state-dir", str(options.state)), options.state, environ, sys.stderr))
    return 0


def _options(
    registry: Path | None, state_dir: Path | None, database_url: str | None, *, demo: bool, ready_file: Path | None
) -> Options:
    if demo and registry is not None:
        raise click.UsageError("--demo brings its own registry file; leave one of the two out")
    if not demo:
        registry = _absolute(registry or Path(DEFAULT_FILE))
        if not registry.exists():
            raise click.UsageError(f"{registry} does not exist: name your registry with -f FILE, or try --demo")
    return Options(
        registry=registry,
        state=_state_of(registry, state_dir),
        database_url=database_url or None,
        environ=os.environ,
        ready_file=ready_file,
    )
