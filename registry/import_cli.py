"""`postern import`: shows each server's whole command, asks, and writes sections whose secrets are references."""

import base64
import os
import secrets as randomness
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import click

from registry.check_cli import EXIT_FINDINGS, registry_file, registry_option
from registry.importers import FoundServer, ImportFileError, read_import
from registry.importers.found import FoundSecret
from registry.importers.jsonc import MAX_BYTES
from registry.importers.section import Proposal, distinct_names, fill_inputs, propose
from registry.loader import load
from registry.models import Fleet
from registry.problems import printable
from registry.secret_store import EncryptedStore
from registry.secrets import Secret, SecretError
from registry.source import Data
from registry.yaml_writer import write_yaml

KEY_BYTES = 48


@click.command("import")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--into", type=click.Path(dir_okay=False), help="Write here instead of printing; the file must be new.")
@click.option("--store", "in_store", is_flag=True, help="Put the secrets found into the local store.")
@click.option("--input", "inputs", multiple=True, metavar="NAME=VALUE", help="Fill in a placeholder; not for secrets.")
@click.option("--yes", is_flag=True, help="Accept every server without asking.")
@registry_option
def command(
    *, source: str, into: str | None, in_store: bool, inputs: tuple[str, ...], yes: bool, file: str | None
) -> None:
    """Import servers from SOURCE: Claude Desktop, Claude Code, Cursor, VS Code, or a server.json."""
    path = registry_file(file, os.environ)
    fleet = load(path).draft if path.exists() else None
    found = _found(source)
    given = dict(_pair(text) for text in inputs)
    servers = distinct_names(found, frozenset(fleet.servers) if fleet else frozenset())
    accepted = [fill_inputs(each, given) for each in servers if _is_accepted(fill_inputs(each, given), yes)]
    if not accepted:
        _fail("no server was accepted")
    proposals = _proposals(accepted, fleet, in_store=in_store)
    if in_store:
        _keep(proposals, path)
    _write({"servers": {each.name: each.section for each in proposals}}, into)
    _report(proposals, accepted, into, in_store=in_store)


def _found(source: str) -> tuple[FoundServer, ...]:
    try:
        with click.open_file(source, "rb") as file:
            return read_import(file.read(MAX_BYTES + 1))
    except (ImportFileError, OSError) as error:
        _fail(str(error))


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--input")
    return name, value


def _is_accepted(found: FoundServer, yes: bool) -> bool:
    """Show everything that will run, and ask."""
    click.echo(f"{found.name}: {printable(found.display_name)}", err=True)
    click.echo(f"  {'runs' if found.command else 'at'}    {printable(found.command_line)}", err=True)
    for label, names in (("env", found.env), ("headers", found.headers)):
        if names:
            click.echo(f"  {label:<7} {printable(', '.join(names))}", err=True)
    for name in _composed((*found.env.values(), *found.headers.values())):
        click.echo(f"  note    {printable(name)} holds a placeholder of the client's; set its whole value", err=True)
    for note in found.notes:
        click.echo(f"  note    {printable(note)}", err=True)
    if found.inputs:
        click.echo(f"  missing {printable(', '.join(found.inputs))} (it stays off until --input gives them)", err=True)
    if found.extra:
        click.echo(f"  unknown {printable(', '.join(found.extra))}", err=True)
    return yes or click.confirm("  Take it?", default=False, err=True)


def _composed(values: Iterable[FoundSecret | str]) -> Iterator[str]:
    """Name the values that a client would put together itself."""
    return (each.name for each in values if isinstance(each, FoundSecret) and each.text and not each.is_whole)


def _proposals(accepted: list[FoundServer], fleet: Fleet | None, *, in_store: bool) -> list[Proposal]:
    ports = _free_ports(fleet)
    return [propose(each, next(ports, None) if each.command else None, in_store=in_store) for each in accepted]


def _free_ports(fleet: Fleet | None) -> Iterator[int]:
    known = fleet or Fleet(version=1)
    taken = {server.port for server in known.servers.values()} | {known.proxy.port}
    window = known.fleet.ports
    return (port for port in range(window.first, window.last + 1) if port not in taken)


def _keep(proposals: list[Proposal], path: Path) -> None:
    """Put found values, and a fresh signing key for each server, into the store."""
    try:
        store = EncryptedStore.beside(path.absolute().parent, os.environ)
        for reference, secret in _stored(proposals):
            made = base64.urlsafe_b64encode(randomness.token_bytes(KEY_BYTES)) if secret.name == "signing-key" else None
            value = (secret.text or "").encode() if secret.is_whole else made
            if value is not None:
                store.put(reference.removeprefix("store:"), Secret(value), now=datetime.now(UTC))
    except SecretError as error:
        _fail(f"{error.message}; {error.hint}")


def _stored(proposals: list[Proposal]) -> Iterator[tuple[str, FoundSecret]]:
    for proposal in proposals:
        yield from ((ref, secret) for ref, secret in proposal.secrets.items() if ref.startswith("store:"))


def _write(document: Mapping[str, Data], into: str | None) -> None:
    try:
        text = write_yaml(dict(document))
        if into is None:
            click.echo(text, nl=False)
            return
        Path(into).parent.mkdir(parents=True, exist_ok=True)
        with Path(into).open("x", encoding="utf-8") as file:
            file.write(text)
    except (OSError, ValueError) as error:
        _fail(f"cannot write: {error}")


def _report(proposals: list[Proposal], accepted: list[FoundServer], into: str | None, *, in_store: bool) -> None:
    if into:
        click.echo(f"wrote {into}; let `include:` name it, and run `postern check`", err=True)
    for proposal, found in zip(proposals, accepted, strict=True):
        wanted = [
            reference
            for reference, secret in proposal.secrets.items()
            if not in_store or not (secret.is_whole or secret.name == "signing-key")
        ]
        if wanted:
            click.echo(f"{found.name}: to be set: {', '.join(wanted)}", err=True)
        click.echo(f"{found.name}: no tool can be called until it is listed under `tools:`", err=True)
    click.echo("`postern lock --start` writes down what tools they have, in postern.lock.yaml", err=True)


def _fail(message: str) -> NoReturn:
    click.echo(f"postern import: {message}", err=True)
    sys.exit(EXIT_FINDINGS)
