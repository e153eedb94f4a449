"""`postern`: one command, whose subcommands live in three packages and load only when they are called.

Exit codes everywhere: 0 fine, 1 findings, 2 usage, 3 cannot start.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import NoReturn, cast

import click

EXIT_CANNOT_START = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a subcommand is (`module:attribute`) and what `postern --help` says about it."""

    target: str
    help: str


COMMANDS: Mapping[str, Entry] = {
    "up": Entry("supervisor_plugin.up.command:command", "Bring the whole fleet up, and down again with Ctrl-C."),
    "down": Entry("supervisor_plugin.up.command:down", "End what `postern up` keeps running here."),
    "check": Entry("registry.check_cli:command", "Check the registry file: every rule, every finding, with its line."),
    "registry": Entry("registry.registry_cli:command", "Show what the registry declares."),
    "explain": Entry("proxy.explain_cli:command", "Say what the proxy would decide about a call, and why."),
    "import": Entry("registry.import_cli:command", "Take over servers from another client's configuration."),
    "schema": Entry("registry.schema_cli:command", "Print the JSON Schema of postern.yaml, for editors."),
    "secret": Entry("registry.secret_cli:command", "Set, list and rotate secrets."),
    "lock": Entry("registry.lock_cli:command", "Pin the tools of every server, and show what drifted."),
    "tools": Entry("registry.tools_cli:command", "List the tools of the fleet and what they return."),
    "token": Entry("proxy.auth.token_cli:command", "Issue a short-lived token, for development."),
    "sign": Entry("proxy.auth.sign_cli:command", "Sign an identity as a trusted proxy would."),
    "session": Entry("proxy.sessions.cli:command", "List and revoke sessions."),
    "audit": Entry("proxy.audit.cli:command", "Query, follow, verify and export the audit log."),
    "migrate": Entry("registry.migrate_cli:command", "Bring the tables of a database up to date."),
    "probe": Entry("supervisor_plugin.probe:command", "Test the connection to one server."),
    "proxy": Entry("proxy.server:command", "Run the proxy."),
    "listener": Entry("supervisor_plugin.listener:command", "Run the fleet listener; supervisord calls this."),
    "run": Entry("supervisor_plugin.alone:command", "Run one internal server here, without fleet and proxy."),
    "exec": Entry("supervisor_plugin.launch:command", "Become a server's process; supervisord calls this."),
}


class LazyGroup(click.Group):
    """Imports a subcommand when it is called; one that is broken or absent does not disturb the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- the signature is click's
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        entry = COMMANDS.get(cmd_name)
        return load_command(cmd_name, entry) if entry else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List from the table, so that `--help` imports nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


def load_command(name: str, entry: Entry) -> click.Command:
    """Import one subcommand; where its module is not installed, one that says so and exits 3."""
    module, _, attribute = entry.target.partition(":")
    try:
        return cast("click.Command", getattr(import_module(module), attribute))
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        return _absent(name, f"{module} is not part of this installation")
    except AttributeError:
        return _absent(name, f"{module} has no command")


def _absent(name: str, reason: str) -> click.Command:
    @click.command(name, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
    def absent() -> NoReturn:
        click.echo(f"postern {name}: not available here: {reason}", err=True)
        sys.exit(EXIT_CANNOT_START)

    return absent


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="postern", prog_name="postern")
def main() -> None:
    """Govern MCP servers that nobody has to modify: who may call what, and a row for every call."""


if __name__ == "__main__":
    main()
