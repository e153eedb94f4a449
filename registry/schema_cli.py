"""`postern schema`: for the first line of a registry file, `# yaml-language-server: $schema=…`."""

import json

import click

from registry.editor_schema import editor_schema


@click.command("schema")
def command() -> None:
    """Print the JSON Schema of postern.yaml and of the files that it includes."""
    click.echo(json.dumps(editor_schema(), indent=2))
