"""`postern registry list | show`: what exists, for people and for machines."""

import json
import sys
from collections.abc import Sequence

import click

from registry.check_cli import EXIT_FINDINGS, gate_or_exit, registry_option
from registry.models import Fleet, Server
from registry.problems import printable
from registry.schema_problems import near
from registry.views import View, describe_fleet, describe_server


@click.group("registry")
def command() -> None:
    """Show what the registry declares. Secrets are shown by name only."""


_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@command.command("list")
@registry_option
@_JSON
def list_servers(file: str | None, as_json: bool) -> None:
    """List every server that exists now."""
    fleet = _fleet(file)
    if as_json:
        _print_json(describe_fleet(fleet))
        return
    rows = [("NAME", "TYPE", "AT", "TOKEN", "SCOPES", "TOOLS", "WHAT")]
    rows += [_row(server) for server in fleet.enabled_servers()]
    click.echo(columns(rows), nl=False)


@command.command("show")
@click.argument("name")
@registry_option
@_JSON
def show(name: str, file: str | None, as_json: bool) -> None:
    """Show one server in full."""
    fleet = _fleet(file)
    server = next((each for each in fleet.enabled_servers() if each.name == name), None)
    if server is None:
        known = [each.name for each in fleet.enabled_servers()]
        hint = near(name, known) or f"there are: {', '.join(known)}"
        click.echo(f"postern registry show: there is no server {name!r}; {hint}", err=True)
        sys.exit(EXIT_FINDINGS)
    view = describe_server(fleet, server)
    if as_json:
        _print_json(view)
    else:
        click.echo(columns([(key, _plain(value)) for key, value in view.items()]), nl=False)


def _fleet(file: str | None) -> Fleet:
    _, result = gate_or_exit(file)
    assert result.fleet is not None  # noqa: S101 -- the gate is passed
    return result.fleet


def _row(server: Server) -> tuple[str, ...]:
    return (
        server.name,
        server.type,
        f":{server.port}" if server.type == "internal" else server.endpoint or "",
        "required" if server.oauth.required else "optional",
        " ".join(server.oauth.scopes) or "-",
        str(len(server.tools)),
        server.display_name,
    )


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _print_json(view: View) -> None:
    click.echo(json.dumps(view, ensure_ascii=False, indent=2))


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Lay rows out in aligned columns; the last one is as long as it is."""
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)][:-1]
    lines = ["  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[-1]]) for row in shown]
    return "\n".join(line.rstrip() for line in lines) + "\n"
