"""`postern tools`: every tool of the fleet; with `--artifacts` every shape that its results can have."""

import json
import sys

import click

from registry.artifacts.shapes import Shape, shapes
from registry.check_cli import gate_or_exit, registry_option
from registry.contracts.lockfile import LockError, lock_path, read_lock
from registry.models import Fleet
from registry.registry_cli import columns

EXIT_CANNOT = 3


@click.command("tools")
@click.argument("servers", nargs=-1)
@registry_option
@click.option("--artifacts", is_flag=True, help="Show what each tool can return.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with whole schemas.")
def command(servers: tuple[str, ...], file: str | None, artifacts: bool, as_json: bool) -> None:
    """List the tools that are declared, of SERVERS or of all; where `*` is declared, all that are pinned."""
    path, result = gate_or_exit(file)
    assert result.fleet is not None  # noqa: S101 -- the gate is passed
    _refuse_unknown(result.fleet, servers)
    try:
        lock = read_lock(lock_path(path))
    except LockError as error:
        click.echo(f"postern tools: {error}", err=True)
        sys.exit(EXIT_CANNOT)
    found = [shape for shape in shapes(result.fleet, lock) if not servers or shape.server in servers]
    if as_json:
        click.echo(json.dumps([shape.view() for shape in found], ensure_ascii=False, indent=2))
    else:
        rows = _artifact_rows(found) if artifacts else _tool_rows(result.fleet, found)
        click.echo(columns(rows), nl=False)


def _refuse_unknown(fleet: Fleet, servers: tuple[str, ...]) -> None:
    known = [server.name for server in fleet.enabled_servers()]
    unknown = [name for name in servers if name not in known]
    if unknown:
        raise click.UsageError(f"there is no server {unknown[0]!r}; there are: {', '.join(known) or 'none'}")


def _artifact_rows(found: list[Shape]) -> list[tuple[str, ...]]:
    head = ("SERVER", "TOOL", "CONTRACT", "RETURNS")
    return [head, *((each.server, each.tool, _short(each.digest), each.summary) for each in found)]


def _tool_rows(fleet: Fleet, found: list[Shape]) -> list[tuple[str, ...]]:
    head = ("SERVER", "TOOL", "CONTRACT", "SCOPES")
    return [head, *((each.server, each.tool, _short(each.digest), _scopes(fleet, each)) for each in found)]


def _scopes(fleet: Fleet, shape: Shape) -> str:
    server = fleet.servers[shape.server]
    tool = server.tools.get(shape.tool) or server.tools["*"]
    needed = [*server.oauth.scopes, *tool.scopes]
    ways = [" ".join(way) for way in tool.any_of]
    return " ".join([*dict.fromkeys(needed), *([f"({' or '.join(ways)})"] if ways else [])]) or "-"


def _short(digest: str | None) -> str:
    return digest.removeprefix("sha256:")[:12] if digest is not None else "not pinned"
