"""The registry file as the proxy reads it: at the start, and again at each SIGHUP (SPEC R4)."""

import asyncio
import logging
import os
import signal
from pathlib import Path

from proxy.runtime import Runtime
from registry import gate
from registry.database.errors import DatabaseError
from registry.models import Fleet
from registry.problems import render_text
from registry.secrets import SecretError

_log = logging.getLogger("postern.registry")


class StartError(Exception):
    """The proxy cannot start; the message says what and what to do."""


class RegistryFindingsError(Exception):
    """The registry does not pass the gate; the message holds every finding."""


def reload_on_signal(runtime: Runtime, only: str | None) -> None:
    """Read the registry again at each SIGHUP, until the runtime is closed or drains; also at one that has waited."""
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    async def reload_when_asked() -> None:
        while True:
            await asked.wait()
            asked.clear()
            if not runtime.draining:
                await reload(runtime, only)

    runtime.background.keep("reload", reload_when_asked)


async def reload(runtime: Runtime, only: str | None) -> None:
    """Pass the gate again. A bad registry is refused as a whole, said so, and the old one stays in force (SPEC R4)."""
    refused: str | None = "a defect, which the log shows"
    try:
        fleet = await asyncio.to_thread(load_fleet, runtime.settings.registry, only)
        await runtime.check_tables(fleet)
        changed = runtime.apply(fleet)
    except (RegistryFindingsError, StartError, SecretError, DatabaseError, ValueError) as error:
        refused = str(error)
        _log.error("the registry was not reloaded, the old one stays in force: %s", error)
    else:
        refused = None
        _log.info("registry reloaded; changed servers: %s", ", ".join(changed) or "none")
    finally:
        runtime.refused_reload = refused


def load_fleet(path: Path, only: str | None) -> Fleet:
    """Pass the gate or raise `RegistryFindingsError` with every finding; `only` keeps the section of one server."""
    result = gate.check(path, environ=os.environ, only=only)
    if result.fleet is None or not result.ok:
        raise RegistryFindingsError(render_text(result.problems))
    if only is None:
        return result.fleet
    there = [server.name for server in result.fleet.enabled_servers()]
    if only not in there:
        known = f"; it has {', '.join(there) or 'none'}"
        off = " that is enabled" if only in result.fleet.servers else ""
        raise StartError(f"{path} has no server {only!r}{off}{known}")
    return result.fleet.model_copy(update={"servers": {only: result.fleet.servers[only]}})
