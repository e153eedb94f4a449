"""`postern secret`: the encrypted local store, and rotation of signing keys."""

import base64
import os
import secrets as randomness
import sys
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from registry.check_cli import EXIT_FINDINGS, gate_or_exit, registry_file, registry_option
from registry.gate import check
from registry.key_rotation import MAX_OVERLAP, Rotation, RotationError, plan_rotation, write_text
from registry.loader import load
from registry.models import Key, Server
from registry.problems import render_text
from registry.registry_cli import columns
from registry.secret_store import EncryptedStore, new_key
from registry.secrets import Secret, SecretError

KEY_BYTES = 48


@click.group("secret")
def command() -> None:
    """Set, list and rotate secrets. The store lies beside the registry, or at $POSTERN_STORE."""


@command.command("key")
def key() -> None:
    """Print a new key for the store, to be kept in POSTERN_STORE_KEY."""
    click.echo(new_key())


@command.command("set")
@click.argument("name")
@click.option("--generate", is_flag=True, help="Make a random one; it is not shown.")
@registry_option
def set_secret(name: str, generate: bool, file: str | None) -> None:
    """Set secret NAME, read from standard input or asked for; the registry then says store:NAME."""
    value = base64.urlsafe_b64encode(randomness.token_bytes(KEY_BYTES)) if generate else _typed()
    if not value:
        click.echo("postern secret: the value is empty; nothing was set", err=True)
        sys.exit(EXIT_FINDINGS)
    with _errors_shown():
        store = _store(file)
        store.put(name, Secret(value), now=datetime.now(UTC))
    click.echo(f"store:{name} is set, in {store.path}")


@command.command("list")
@registry_option
def list_secrets(file: str | None) -> None:
    """List the names in the store, and when each was set."""
    with _errors_shown():
        names = _store(file).names()
    click.echo(columns([("NAME", "SET"), *names.items()]), nl=False)


@command.command("remove")
@click.argument("name")
@registry_option
def remove(name: str, file: str | None) -> None:
    """Forget secret NAME."""
    with _errors_shown():
        found = _store(file).remove(name)
    if not found:
        click.echo(f"postern secret: the store has no secret {name!r}", err=True)
        sys.exit(EXIT_FINDINGS)


@command.command("rotate")
@click.argument("server")
@click.option(
    "--overlap",
    "hours",
    type=click.FloatRange(0, MAX_OVERLAP.total_seconds() / 3600),
    default=24.0,
    show_default=True,
    help="For how many hours tokens of the old key stay good.",
)
@click.option("--secret", "reference", help="Where the new key is (env:, file:, store:); default: make one.")
@click.option("--dry-run", is_flag=True, help="Print the edited file instead of writing it.")
@registry_option
def rotate(server: str, hours: float, reference: str | None, dry_run: bool, file: str | None) -> None:
    """Give SERVER a new signing key. Tokens of the old one stay good during the overlap; nobody is logged out."""
    path, result = gate_or_exit(file)
    declared = result.fleet.servers.get(server) if result.fleet else None
    if declared is None:
        click.echo(f"postern secret rotate: there is no server {server!r}", err=True)
        sys.exit(EXIT_FINDINGS)
    now = datetime.now(UTC)
    kid = f"{now:%Y%m%d}-{randomness.token_hex(4)}"
    new = Key(kid=kid, secret=reference or f"store:{server}-{kid}")
    with _errors_shown():
        rotation = _planned(path, declared, new, now, timedelta(hours=hours))
        if dry_run:
            click.echo(rotation.text, nl=False)
            return
        with _stored(file, new, now) if reference is None else nullcontext():
            _write_checked(path, rotation.file, rotation.text)
    click.echo(f"servers.{server}: new key {kid} at {new.secret}; the old ones end at {rotation.ends}")
    opened = ", if the fleet was started with POSTERN_STORE_KEY" if new.secret.startswith("store:") else ""
    click.echo(f"It is in force with the next reload{opened}; sign new tokens with it.")


@contextmanager
def _stored(file: str | None, new: Key, now: datetime) -> Generator[None]:
    """Put a new key into the store, and take it out again if nothing comes to refer to it."""
    store, name = _store(file), new.secret.removeprefix("store:")
    store.put(name, Secret(base64.urlsafe_b64encode(randomness.token_bytes(KEY_BYTES))), now=now)
    try:
        yield
    except BaseException:
        store.remove(name)
        raise


def _planned(path: Path, server: Server, new: Key, now: datetime, overlap: timedelta) -> Rotation:
    if any(new.secret == old.secret for old in server.oauth.keys):
        raise RotationError(f"{new.secret} already is a key of servers.{server.name}")
    layout = load(path).layout
    newline = _newline(Path(layout.source(("servers", server.name)).file))
    return plan_rotation(layout, server, new, now=now, overlap=overlap, newline=newline)


def _write_checked(root: Path, edited: Path, text: str) -> None:
    """Write, pass the gate, and take it back if the gate says no."""
    before = edited.read_bytes().decode("utf-8-sig")
    write_text(edited, text)
    result = check(root, environ=os.environ)
    if not result.ok:
        write_text(edited, before)
        click.echo(render_text(result.problems), err=True, nl=False)
        raise RotationError("the new key does not pass the gate; the file is as it was")


def _newline(path: Path) -> str:
    return "\r\n" if b"\r\n" in path.read_bytes() else "\n"


def _typed() -> bytes:
    if sys.stdin.isatty():
        return str(click.prompt("Secret", hide_input=True, confirmation_prompt=True)).encode()
    return sys.stdin.buffer.read().removesuffix(b"\n").removesuffix(b"\r")


def _store(file: str | None) -> EncryptedStore:
    return EncryptedStore.beside(registry_file(file, os.environ).absolute().parent, os.environ)


@contextmanager
def _errors_shown() -> Generator[None]:
    try:
        yield
    except SecretError as error:
        click.echo(f"postern secret: {error.message}\n  hint: {error.hint}", err=True)
        sys.exit(EXIT_FINDINGS)
    except (RotationError, OSError) as error:
        click.echo(f"postern secret: {error}", err=True)
        sys.exit(EXIT_FINDINGS)
