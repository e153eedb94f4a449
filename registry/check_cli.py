"""`postern check`: the gate, by hand."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, assert_never

import click

from registry.gate import GateResult, check
from registry.models import Fleet
from registry.problems import Problem, render_json, render_sarif, render_text

EXIT_FINDINGS = 1
DEFAULT_FILE = "postern.yaml"
STATE = ".postern"
Format = Literal["text", "json", "sarif"]


# The same three spellings wherever a command takes a registry.
registry_option = click.option(
    "--registry", "--file", "-f", "file", type=click.Path(), help="Registry file; default $POSTERN_REGISTRY."
)


def registry_file(given: str | None, environ: Mapping[str, str]) -> Path:
    """Return the registry file that a command works on: its argument, $POSTERN_REGISTRY, or ./postern.yaml."""
    return Path(given or environ.get("POSTERN_REGISTRY") or DEFAULT_FILE)


def state_directory(registry: Path, environ: Mapping[str, str]) -> Path:
    """Return where a fleet keeps its state: $POSTERN_STATE_DIR, or the `.postern` beside its registry or around it."""
    if named := environ.get("POSTERN_STATE_DIR"):
        return Path(named).absolute()
    beside = registry.absolute().parent
    return beside if beside.name == STATE else beside / STATE


def gate_or_exit(given: str | None, *, with_lock: bool = True) -> tuple[Path, GateResult]:
    """Pass the gate, or print every finding and exit 1."""
    path = registry_file(given, os.environ)
    result = check(path, environ=os.environ, with_lock=with_lock)
    if not result.ok:
        click.echo(render_text(result.problems), err=True, nl=False)
        sys.exit(EXIT_FINDINGS)
    return path, result


def rendered(problems: Sequence[Problem], chosen: Format) -> str:
    match chosen:
        case "text":
            return render_text(problems)
        case "json":
            return render_json(problems)
        case "sarif":
            return render_sarif(problems)
        case _:
            assert_never(chosen)


@click.command("check")
@click.argument("given", metavar="[FILE]", required=False, type=click.Path())
@registry_option
@click.option("--format", "chosen", type=click.Choice(["text", "json", "sarif"]), default="text", help="How to print.")
@click.option(
    "--offline", is_flag=True, help="Leave out what only the fleet's machine knows: files, programs, secrets."
)
def command(given: str | None, file: str | None, chosen: Format, offline: bool) -> None:
    """Check FILE, or $POSTERN_REGISTRY, or ./postern.yaml: exit 0 if all is well, 1 if there are findings."""
    if given and file:
        raise click.UsageError("one registry file at a time")
    path = registry_file(given or file, os.environ)
    result = check(path, environ=os.environ, on_host=not offline)
    click.echo(rendered(result.problems, chosen), nl=False)
    if not result.ok:
        sys.exit(EXIT_FINDINGS)
    if chosen == "text" and result.fleet:
        count = len(result.fleet.enabled_servers())
        click.echo(f"{path}: {count} {'server' if count == 1 else 'servers'}, nothing to mend")
        _note_what_is_not_enforced(result.fleet)


def _note_what_is_not_enforced(fleet: Fleet) -> None:
    """Say which limit the file sets in vain: a reader of the file would count on it."""
    for server in fleet.enabled_servers():
        if server.limits.rate_per_principal is not None:
            where = f"servers.{server.name}.limits.rate_per_principal"
            click.echo(f"note: {where} is not enforced yet; the hook proxy.hooks.rate:Rate is", err=True)
