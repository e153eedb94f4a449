"""`postern sign`: the headers with which a trusted proxy vouches for somebody, one a line, for `curl -H @-`."""

import os
from pathlib import Path
from time import time
from typing import BinaryIO, Literal

import click

from proxy.auth.issuer import CannotIssueError
from proxy.auth.signer import Outgoing, Signer, new_nonce
from proxy.auth.token_cli import find_server
from registry.check_cli import gate_or_exit, registry_option
from registry.models import Fleet, ProxyKey
from registry.secrets import SecretError, SecretReader


@click.command("sign")
@click.option("--server", "name", required=True, help="The server that is called.")
@click.option("--user", required=True, help="Whom the proxy vouches for (x-user-id).")
@click.option("--permission", "permissions", default="", help='Permissions, separated by spaces: "a b".')
@click.option("--kid", default=None, help="The key to sign with. Default: the first of the registry.")
@click.option("--key", type=click.Path(exists=True, dir_okay=False), help="Ed25519 private key (PEM).")
@click.option("--method", default="POST", show_default=True, help="The HTTP method.")
@click.option("--query", default="", help="The query of the request, without the question mark.")
@click.option("--body", type=click.File("rb"), default=None, help="The body; - is standard input. Default: empty.")
@click.option("--scheme", type=click.Choice(["postern", "rfc9421"]), default="postern", show_default=True)
@registry_option
def command(
    *,
    name: str,
    user: str,
    permissions: str,
    kid: str | None,
    key: str | None,
    method: str,
    query: str,
    body: BinaryIO | None,
    scheme: Literal["postern", "rfc9421"],
    file: str | None,
) -> None:
    """Print the headers that sign one request: good once, and for a minute. Send them with exactly that body."""
    path, result = gate_or_exit(file)
    if result.fleet is None:  # the gate has said why and left
        return
    try:
        server = find_server(result.fleet, name)
        target = f"/{server.name}/mcp" + (f"?{query}" if query else "")
        audience = result.fleet.audience(server)
        content = body.read() if body else b""
        outgoing = Outgoing(method.upper(), target, audience, user, tuple(permissions.split()), content)
        signer = make_signer(result.fleet, scheme, kid, key, SecretReader(path.absolute().parent, os.environ))
        sign = signer.postern if scheme == "postern" else signer.rfc9421
        for header, value in sign(outgoing, time(), new_nonce()).items():
            click.echo(f"{header}: {value}")
    except (ValueError, SecretError) as error:
        raise click.ClickException(str(error)) from None


def make_signer(fleet: Fleet, scheme: str, kid: str | None, key_file: str | None, secrets: SecretReader) -> Signer:
    """Return a signer with a declared key: the shared secret, or the private key whose public part is declared."""
    declared = _find_key(fleet, scheme, kid)
    if declared.algorithm == "hmac-sha256":
        return Signer.hmac(declared.kid, secrets.reveal(declared.secret or "").encode())
    if key_file is None:
        raise CannotIssueError(f"key {declared.kid} is an Ed25519 key: name its private part with --key")
    return Signer.ed25519(declared.kid, Path(key_file).read_bytes())


def _find_key(fleet: Fleet, scheme: str, kid: str | None) -> ProxyKey:
    for proxy in fleet.trusted_proxies.values():
        for key in proxy.keys:
            if proxy.scheme == scheme and (kid is None or key.kid == kid):
                return key
    named = f" {kid!r}" if kid else ""
    raise CannotIssueError(f"no trusted proxy has a key{named} of the scheme {scheme} (trusted_proxies)")
