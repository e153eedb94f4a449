"""`postern lock`: pin what the servers offer, show what drifted, take over what was reviewed."""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import click

from registry.check_cli import EXIT_FINDINGS, gate_or_exit, registry_option, state_directory
from registry.contracts.catalogue import Catalogue, CatalogueError, read_catalogue
from registry.contracts.http import transport_to
from registry.contracts.locked import Lock
from registry.contracts.lockfile import LockError, lock_path, read_lock, write_lock
from registry.contracts.pinning import Finding, adopt, find, gone, render
from registry.contracts.starting import started
from registry.models import Fleet, Server
from registry.secrets import SecretReader

EXIT_USAGE, EXIT_CANNOT = 2, 3
_TOTAL_S = 60.0


@dataclass(frozen=True, slots=True)
class Road:
    """How servers are asked: with which secrets, where bridges have their tokens, and whether they may be started."""

    registry: Path
    secrets: SecretReader
    state_dir: Path
    starts: bool


@click.command("lock")
@click.argument("servers", nargs=-1)
@registry_option
@click.option("--diff", "shows", is_flag=True, help="Show every difference between pins and servers; write nothing.")
@click.option("--approve", is_flag=True, help="Pin what the servers say now, in place of what was pinned.")
@click.option("--start", "starts", is_flag=True, help="Start internal servers that do not run, while they are asked.")
def command(servers: tuple[str, ...], file: str | None, *, shows: bool, approve: bool, starts: bool) -> None:
    """Ask the servers what they offer, and pin what is not pinned yet in postern.lock.yaml.

    Nothing that is pinned changes without --approve. SERVERS default to all whose `contract.drift` is not `skip`.
    Exit codes: 0 all as pinned, 1 something drifted or is gone, 2 usage, 3 a server or the lock could not be read.
    """
    if shows and approve:
        raise click.UsageError("--diff only looks, --approve writes: choose one")
    path, result = gate_or_exit(file, with_lock=False)
    assert result.fleet is not None  # noqa: S101 -- the gate is passed
    target = lock_path(path)
    try:
        lock = read_lock(target)
        findings = _find(result.fleet, servers, lock, _road(path, starts=starts))
        adopted = adopt(lock, findings, approve=approve)
        wrote = not shows and adopted != lock and write_lock(target, adopted)
    except LockError as error:
        click.echo(f"postern lock: {error}", err=True)
        sys.exit(EXIT_CANNOT)
    _report(findings, target, shows=shows or approve, wrote=wrote)
    sys.exit(_exit_code(findings, shows=shows, approve=approve))


def _road(registry: Path, *, starts: bool) -> Road:
    secrets = SecretReader(registry.absolute().parent, os.environ)
    return Road(registry, secrets, state_directory(registry, os.environ), starts)


def _find(fleet: Fleet, names: Sequence[str], lock: Lock, road: Road) -> list[Finding]:
    chosen = _chosen(fleet, names)
    live = asyncio.run(_ask(chosen, road))
    findings = [find(lock, server.name, live[server.name]) for server in chosen]
    return findings if names else [*findings, *gone(lock, [server.name for server in fleet.servers.values()])]


def _chosen(fleet: Fleet, names: Sequence[str]) -> list[Server]:
    there = {server.name: server for server in fleet.enabled_servers()}
    unknown = [name for name in names if name not in there]
    if unknown:
        raise click.UsageError(f"there is no server {unknown[0]!r}; there are: {', '.join(there) or 'none'}")
    return [there[name] for name in names] or [each for each in there.values() if each.contract.drift != "skip"]


async def _ask(servers: Sequence[Server], road: Road) -> Mapping[str, Catalogue | str]:
    answers = await asyncio.gather(*(_ask_one(server, road) for server in servers))
    return {server.name: answer for server, answer in zip(servers, answers, strict=True)}


async def _ask_one(server: Server, road: Road) -> Catalogue | str:
    try:
        running, limit = _running(server, road), asyncio.timeout(_TOTAL_S)
        async with running, limit, transport_to(server, road.secrets, road.state_dir) as transport:
            return await read_catalogue(transport)
    except TimeoutError:
        return f"no answer within {_TOTAL_S:g} s"
    except CatalogueError as error:
        if road.starts or server.type == "external":
            return str(error)
        return f"{error}; it must run to be asked: `postern up`, or `postern lock --start {server.name}`"


def _running(server: Server, road: Road) -> AbstractAsyncContextManager[None]:
    environ = {**os.environ, "POSTERN_STATE_DIR": str(road.state_dir)}
    return started(server, road.registry, environ) if road.starts else nullcontext()


def _report(findings: Sequence[Finding], target: Path, *, shows: bool, wrote: bool) -> None:
    for finding in findings:
        for line in render(finding, whole=shows):
            click.echo(line)
    if wrote:
        click.echo(f"wrote {target}: review it and commit it; a fleet that runs goes by it after `fleet reconcile`")
    elif any(finding.drift or finding.state == "gone" for finding in findings):
        click.echo("nothing was written: `postern lock --approve` takes over what the servers say now")


def _exit_code(findings: Sequence[Finding], *, shows: bool, approve: bool) -> int:
    states = {finding.state for finding in findings}
    if "not reached" in states:
        return EXIT_CANNOT
    open_states = {"drifted", "gone", "new"} if shows else {"drifted", "gone"}
    return EXIT_FINDINGS if states & open_states and not approve else 0
