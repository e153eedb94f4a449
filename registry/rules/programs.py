"""What runs: the kind of a server, its program, and where that lies."""

import os
from collections.abc import Iterator
from pathlib import Path

from registry.models import Server
from registry.problems import quoted_path
from registry.rules.base import Context, Finding, at


def internal_without_command(context: Context) -> Iterator[Finding]:
    for server in context.servers():
        if server.type == "internal" and not (server.command and server.command[0].strip()):
            yield Finding(at(server, "command"), "an internal server needs a command")


def internal_with_endpoint(context: Context) -> Iterator[Finding]:
    for server in context.servers():
        if server.type == "internal" and server.endpoint is not None:
            yield Finding(
                at(server, "endpoint"), "an internal server is reached at its port, not at an endpoint", key=True
            )


def external_without_endpoint(context: Context) -> Iterator[Finding]:
    for server in context.servers():
        if server.type == "external" and not server.endpoint:
            yield Finding(at(server, "endpoint"), "an external server needs an endpoint")


def external_with_command(context: Context) -> Iterator[Finding]:
    for server in context.servers():
        if server.type == "external" and server.command:
            yield Finding(at(server, "command"), "an external server is not started here", key=True)


def external_on_stdio(context: Context) -> Iterator[Finding]:
    for server in context.servers():
        if server.type == "external" and server.transport == "stdio":
            yield Finding(at(server, "transport"), "an external server cannot be spoken to over stdio")


def missing_source(context: Context) -> Iterator[Finding]:
    for server in context.servers():
        if server.source is not None and not _exists(server.source):
            yield Finding(at(server, "source"), f"{quoted_path(server.source)} does not exist")


def missing_directory(context: Context) -> Iterator[Finding]:
    for server in context.servers():
        if server.cwd is not None and not _is_directory(server.cwd):
            yield Finding(at(server, "cwd"), f"{quoted_path(server.cwd)} is not a directory")


def command_not_found(context: Context) -> Iterator[Finding]:
    for server, program in _programs(context):
        if "/" in program:
            if not _exists(program):
                yield Finding(at(server, "command", 0), f"{quoted_path(program)} does not exist")
        elif _safe(program) and context.which(program, path=context.environ.get("PATH")) is None:
            yield Finding(at(server, "command", 0), f"{quoted_path(program)} is on no directory of PATH")


def command_not_executable(context: Context) -> Iterator[Finding]:
    for server, program in _programs(context):
        if "/" in program and _exists(program) and not _is_executable(program):
            yield Finding(at(server, "command", 0), f"{quoted_path(program)} is not an executable file")


def _programs(context: Context) -> Iterator[tuple[Server, str]]:
    for server in context.servers():
        if server.type == "internal" and server.command and server.command[0]:
            yield server, server.command[0]


def _safe(text: str) -> bool:
    return len(text) < os.pathconf("/", "PC_NAME_MAX")


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # a name that is too long, a directory that may not be searched
        return False


def _is_directory(path: str) -> bool:
    return _exists(path) and Path(path).is_dir()


def _is_executable(path: str) -> bool:
    return Path(path).is_file() and os.access(path, os.X_OK)
