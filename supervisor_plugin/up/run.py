"""The way up and the way down: every step that succeeded is undone in reverse order, whatever ends the fleet."""

import asyncio
import contextlib
import shlex
import shutil
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from registry import gate
from registry.loader import load
from registry.models import Fleet
from registry.problems import render_text
from supervisor_plugin.config import ConfigError, supervisorctl_argv, write_supervisord_config
from supervisor_plugin.paths import PathError, Paths, prepare, write_private
from supervisor_plugin.up.claim import claim
from supervisor_plugin.up.database import Database, keep_running, running_database
from supervisor_plugin.up.demo import prepare_demo
from supervisor_plugin.up.display import Display
from supervisor_plugin.up.errors import RegistryError, UpError
from supervisor_plugin.up.fleet import RunningFleet
from supervisor_plugin.up.greeting import VERSION, Address, Greeting, render
from supervisor_plugin.up.interrupts import Interrupts
from supervisor_plugin.up.leftovers import end_leftovers
from supervisor_plugin.up.tokens import TOKEN_MINUTES, addresses
from supervisor_plugin.up.vacancy import check_ports


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says. `registry` is None for the demo, whose file is made in the state directory."""

    registry: Path | None
    state: Path
    database_url: str | None = field(default=None, repr=False)
    environ: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    ready_file: Path | None = None
    """Where the greeting goes once all is well, for the `postern up --detach` that started this one."""


async def up(options: Options, display: Display, show: Callable[[str], None]) -> int:
    """Bring the fleet up and keep it until a signal; return the exit code. Raises UpError after cleaning up."""
    work = asyncio.current_task()
    assert work is not None  # noqa: S101 - a coroutine runs in a task
    interrupts = Interrupts(work, display.note)
    options.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    is_up = False
    with interrupts.handled(), claim(options.state):
        for stale in options.state.glob("ready-*"):
            stale.unlink()
        try:
            async with _fleet(options, display, interrupts) as (greeting, fleet, database):
                display.close()
                show(render(greeting))
                if options.ready_file is not None:
                    write_private(options.ready_file, render(greeting))
                is_up = True
                await _watch(fleet, database, display.note)
        except asyncio.CancelledError:
            if interrupts.count == 0:
                raise
        finally:
            if options.ready_file is not None:
                options.ready_file.unlink(missing_ok=True)
    display.note("stopped; nothing is left running")
    return 0 if is_up else 130


@contextlib.asynccontextmanager
async def _fleet(
    options: Options, display: Display, interrupts: Interrupts
) -> AsyncGenerator[tuple[Greeting, RunningFleet, Database]]:
    registry = options.registry or await prepare_demo(options.state, display)
    paths = _paths(options, registry)
    fleet = _check(registry, options.environ, display)
    await _clear(paths, fleet, display, interrupts)
    check_ports(fleet, load(Path(_short(registry))).layout)
    async with contextlib.AsyncExitStack() as stack:
        with display.step("PostgreSQL") as say:
            database = await stack.enter_async_context(
                running_database(options.state, options.database_url, say, display.note)
            )
        running = RunningFleet(paths, fleet)
        stack.push_async_callback(_stop, running, paths, display, interrupts)
        with display.step("supervisord, proxy and servers") as say:
            _write(fleet, paths)
            await running.start()
            await running.until_healthy(say)
        warnings = await running.unhealthy_externals()
        legacy = await running.legacy_servers(VERSION)
        found = await addresses(fleet, paths, legacy)
        yield _greeting(options, paths, found, database, warnings), running, database


def _paths(options: Options, registry: Path) -> Paths:
    state = options.state
    paths = Paths(
        state=state, registry=registry.absolute(), dsn_file=state / "dsn-owner", proxy_dsn_file=state / "dsn-proxy"
    )
    try:
        prepare(paths)
    except (PathError, OSError) as error:
        raise UpError(str(error)) from error
    return paths


def _check(registry: Path, environ: Mapping[str, str], display: Display) -> Fleet:
    shown = Path(_short(registry))
    with display.step("registry") as say:
        result = gate.check(shown, environ=environ)
        if result.fleet is None:
            raise RegistryError(render_text(result.problems).rstrip())
        say(f"{shown}: {len(result.fleet.enabled_servers())} servers, no problem")
        return result.fleet


async def _clear(paths: Paths, fleet: Fleet, display: Display, interrupts: Interrupts) -> None:
    limit_s = RunningFleet(paths, fleet).stop_limit_s
    for found in await end_leftovers(paths, limit_s, hurry=interrupts.hurry):
        display.note(f"ended, left from an earlier run: {found}")


def _write(fleet: Fleet, paths: Paths) -> None:
    try:
        write_supervisord_config(fleet, paths)
    except (ConfigError, OSError) as error:
        raise UpError(f"cannot write supervisord's configuration: {error}") from error


async def _stop(running: RunningFleet, paths: Paths, display: Display, interrupts: Interrupts) -> None:
    await running.stop(interrupts.hurry)
    for left in await end_leftovers(paths, 0, hurry=interrupts.hurry):
        display.note(f"ended, left over: {left}")


async def _watch(fleet: RunningFleet, database: Database, note: Callable[[str], None]) -> None:
    """Wait for what should not happen; the first one raises UpError."""
    keepers = [asyncio.create_task(fleet.ended())]
    if database.cluster is not None:
        keepers.append(asyncio.create_task(keep_running(database.cluster, note)))
    try:
        await asyncio.gather(*keepers)
    finally:
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)


def _greeting(
    options: Options, paths: Paths, found: tuple[Address, ...], database: Database, warnings: Mapping[str, str]
) -> Greeting:
    return Greeting(
        addresses=found,
        token_minutes=TOKEN_MINUTES,
        database=database.label,
        registry=_short(paths.registry),
        state=_short(paths.state),
        postern=_short(paths.postern),
        supervisorctl=shlex.join(_ctl(paths)),
        warnings=tuple(f"{name} cannot be called: {reason}" for name, reason in warnings.items()),
        is_detached=options.ready_file is not None,
    )


def _ctl(paths: Paths) -> tuple[str, ...]:
    beside = paths.postern.with_name("supervisorctl")
    words = supervisorctl_argv(paths)
    return (_short(beside), "-c", _short(paths.conf)) if beside.exists() else words


def _short(path: Path) -> str:
    """Return a path as it is typed from here."""
    here = Path.cwd()
    if path.name in ("postern", "supervisorctl") and shutil.which(path.name) == str(path):
        return path.name
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
