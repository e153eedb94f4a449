"""`postern token`: a short-lived token for one server, printed and nothing else, so that it can be piped."""

import os
from secrets import token_hex
from time import time

import click

from proxy.auth.issuer import CannotIssueError, Grant, issue, parse_ttl
from registry.check_cli import gate_or_exit, registry_option
from registry.models import Fleet, Server
from registry.secrets import SecretError, SecretReader


@click.command("token")
@click.option("--server", "name", required=True, help="The server that the token is for.")
@click.option("--scope", default=None, help='Scopes, separated by spaces: "a b". Default: those of the server.')
@click.option("--subject", required=True, help="Who the caller is.")
@click.option("--client", default=None, help="The client that acts for the caller.")
@click.option("--ttl", default="15m", show_default=True, help="How long the token is good: 90s, 15m, 2h.")
@click.option("--kid", default=None, help="The key to sign with. Default: the first live one.")
@registry_option
def command(
    *, name: str, scope: str | None, subject: str, client: str | None, ttl: str, kid: str | None, file: str | None
) -> None:
    """Issue a token for one server, signed with that server's own key. For development: refused in cloud mode."""
    path, result = gate_or_exit(file)
    if result.fleet is None:  # the gate has said why and left
        return
    secrets = SecretReader(path.absolute().parent, os.environ)
    try:
        server = find_server(result.fleet, name)
        scopes = server.oauth.scopes if scope is None else tuple(scope.split())
        grant = Grant(subject, client, scopes, parse_ttl(ttl), token_hex(8))
        click.echo(issue(result.fleet, server, grant, secrets, now=time(), kid=kid))
    except (CannotIssueError, SecretError) as error:
        raise click.ClickException(str(error)) from None


def find_server(fleet: Fleet, name: str) -> Server:
    """Return an enabled server by name; raises `CannotIssueError` that lists those there are."""
    servers = {server.name: server for server in fleet.enabled_servers()}
    if name not in servers:
        raise CannotIssueError(f"there is no server {name!r}; there are: {', '.join(servers) or 'none'}")
    return servers[name]
