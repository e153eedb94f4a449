"""The gate as the listener uses it: a registry is accepted whole, or refused with words, and then the old one stays."""

import asyncio
import logging
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from registry import gate
from registry.models import Fleet
from supervisor_plugin.client import SupervisorClient, SupervisordError
from supervisor_plugin.config import ConfigError, program_files, write_programs
from supervisor_plugin.names import LISTENER, PROXY
from supervisor_plugin.paths import Paths
from supervisor_plugin.processes import Identity, signal_ours
from supervisor_plugin.sections import write_sections

_log = logging.getLogger("postern.fleet")


class RegistryRefusedError(Exception):
    """The registry does not pass; the text is short enough for a status line and names the first finding."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Programs that supervisord must get, replace, or lose."""

    added: tuple[str, ...]
    replaced: tuple[str, ...]
    removed: tuple[str, ...]


async def read_registry(path: Path, environ: Mapping[str, str]) -> Fleet:
    """Read what is declared; raises RegistryRefusedError."""
    result = await asyncio.to_thread(gate.check, path, environ=environ)
    if result.fleet is not None and result.ok:
        return result.fleet
    first = result.problems[0] if result.problems else None
    where = f"{first.file}:{first.line}:{first.col}: {first.code} {first.message}" if first else str(path)
    more = f" (and {len(result.problems) - 1} more)" if len(result.problems) > 1 else ""
    raise RegistryRefusedError(f"{where}{more}; see `postern check`")


class ProxyNotice:
    """What the proxy has yet to be told: to read a registry that was accepted after it had read its own."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._read_at_s: float | None = None

    def wanted_since(self, read_at_s: float) -> None:
        """A registry was accepted; it was read at `read_at_s` (`time.CLOCK_BOOTTIME`)."""
        self._read_at_s = read_at_s

    def give(self, proxy: Identity) -> None:
        """Tell a proxy that serves, once; one that was started after the reading has read the same."""
        if self._read_at_s is not None and proxy.started_s < self._read_at_s:
            signal_ours(proxy, self._instance, signal.SIGHUP)
        self._read_at_s = None


class Programs:
    """The generated files and what supervisord has made of them."""

    def __init__(self, paths: Paths, instance: str, client: SupervisorClient) -> None:
        self._paths, self._instance, self._client = paths, instance, client

    @property
    def has_proxy(self) -> bool:
        """Whether this fleet runs a proxy of its own; whoever wrote the first configuration decided that."""
        return self._proxy_file.exists()

    @property
    def _proxy_file(self) -> Path:
        return self._paths.programs / f"{PROXY}.conf"

    async def write(self, fleet: Fleet) -> Changed:
        """Write the files and let supervisord read them; raises RegistryRefusedError with everything as it was."""
        before = self._read()
        await self._require_proxy(before)
        try:
            after = program_files(fleet, self._paths, self._instance, None)
        except ConfigError as error:
            raise RegistryRefusedError(str(error)) from error
        if PROXY in before:
            after[PROXY] = before[PROXY]
        try:
            write_programs(after, self._paths.programs)
            added, replaced, removed = await self._client.apply_config()
            write_sections(fleet, self._paths)
        except SupervisordError as error:
            self._restore(before)
            raise RegistryRefusedError(f"supervisord does not take it: {error}") from error
        except OSError as error:
            self._restore(before)
            raise RegistryRefusedError(f"cannot write {error.filename}: {error.strerror}") from error
        return Changed(*(_ours(names) for names in (added, replaced, removed)))

    async def _require_proxy(self, before: Mapping[str, str]) -> None:
        """Refuse to go on where the proxy's file was removed: only `postern up` knows what to write into it."""
        if PROXY in before:
            return
        try:
            running = {
                server["name"] for server in (await self._client.status())["servers"] if server.get("supervised")
            }
        except SupervisordError as error:
            raise RegistryRefusedError(f"supervisord does not say what runs: {error}") from error
        if PROXY in running:
            raise RegistryRefusedError(
                f"{self._proxy_file} was removed: `postern down` and `postern up` write it again"
            )

    def _restore(self, before: Mapping[str, str]) -> None:
        try:
            write_programs(before, self._paths.programs)
        except OSError as error:
            _log.error("%s could not be put back as it was: %s", self._paths.programs, error)

    def _read(self) -> dict[str, str]:
        return {path.stem: path.read_text(encoding="utf-8") for path in self._paths.programs.glob("*.conf")}

    async def renew(self, changed: Changed) -> None:
        """Make supervisord's groups those of the files; what goes must have been stopped before."""
        for name in (*changed.removed, *changed.replaced):
            await self._client.remove_group(name)
        for name in (*changed.replaced, *changed.added):
            await self._client.add_group(name)


def _ours(names: Iterable[str]) -> tuple[str, ...]:
    """Leave out the listener: it does not end itself in the middle of its work."""
    return tuple(name for name in names if name != LISTENER)
