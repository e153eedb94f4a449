"""The guards of one worker: made from registry and lock at the start and at each reload, watched while they count."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from proxy.audit.record import Outcome
from proxy.call import Call
from proxy.exchange import Exchange, Header
from proxy.guard.drift_record import DriftLedger, Record
from proxy.guard.guard import Guard, GuardCounts
from proxy.guard.tool import OTHERS
from proxy.guard.transport import RoadTransport, Upstream
from proxy.guard.watch import ContractWatch, Look
from proxy.hooks.chain import Step
from proxy.hooks.errors import HookConfigError
from proxy.hooks.python_hook import load_hook
from proxy.hooks.webhook import HookClient, Webhook
from proxy.settings import SettingsError
from registry.contracts.catalogue import Catalogue, read_catalogue
from registry.contracts.locked import Lock, ServerLock
from registry.contracts.lockfile import LockError, lock_path, read_lock
from registry.contracts.pins import mismatches
from registry.database.driver import Pool
from registry.models import Fleet, Hook, Server
from registry.secrets import SecretReader

_NEVER: tuple[int, ...] = (0, 0, 0)


class GuardError(SettingsError, ValueError):
    """Lock and registry do not fit: nothing starts, and a reload is refused."""


class Office(Protocol):
    """What watching needs of the executor: the road to the server, and the record."""

    def upstream(self, call: Call) -> Upstream: ...
    def credentials(self, call: Call) -> Sequence[Header]: ...
    async def record(self, exchange: Exchange | None, call: Call, outcome: Outcome) -> bool: ...


class Guards:
    """Makes guards and keeps their watches. `read` before `make`, `adopt` when the new fleet counts."""

    def __init__(self, registry: Path, secrets: SecretReader, pool: Pool, instance: str) -> None:
        self._registry = registry
        self._secrets = secrets
        self._pool, self._instance = pool, instance
        self._client = HookClient()
        self._lock, self._read_at = Lock(), _NEVER
        self._steps: list[tuple[Hook, Step]] = []
        self._payload_bytes = 0
        self._made: dict[str, Guard] = {}
        self._adopted: Mapping[str, Guard] = {}
        self._counts: dict[str, GuardCounts] = {}
        self._watches: dict[str, ContractWatch] = {}
        self._stopping: set[asyncio.Task[None]] = set()

    def read(self, fleet: Fleet) -> None:
        """Read lock and hooks for a fleet; raise `GuardError` or `HookConfigError`, and nothing has changed."""
        path = lock_path(self._registry)
        try:
            stamp = _stamp(path)
            lock = self._lock if stamp == self._read_at else read_lock(path)
        except LockError as error:
            raise GuardError(str(error)) from error
        self._steps = [(hook, self._step(hook)) for hook in fleet.hooks]
        self._payload_bytes = fleet.audit.payload_bytes
        self._lock, self._read_at, self._made = lock, stamp, {}

    def make(self, server: Server) -> Guard:
        """Return a server's guard."""
        pins = self._lock.find(server.name)
        _check_pins(server, pins)
        steps = [step for hook, step in self._steps if not hook.servers or {server.name, OTHERS} & {*hook.servers}]
        counts = self._counts.setdefault(server.name, GuardCounts())
        guard = self._made[server.name] = Guard(server, pins, steps, counts, payload_bytes=self._payload_bytes)
        return guard

    def observed(self) -> Mapping[str, tuple[GuardCounts, int]]:
        """Return by server what its guards have done since the start, and how many things are not as pinned now."""
        return {name: (guard.counts, len(guard.contracts.findings())) for name, guard in self._adopted.items()}

    def adopt(self, office: Office) -> None:
        """Watch the servers of the guards that were made last, and no others."""
        for watch in self._watches.values():
            self._stopping.add(task := asyncio.create_task(watch.stop()))
            task.add_done_callback(self._stopping.discard)
        self._adopted = self._made
        self._watches = {name: self._watch(each, office) for name, each in self._adopted.items() if _is_watched(each)}
        for watch in self._watches.values():
            watch.start()

    def changed(self, server: str) -> None:
        """A server came, went or was restarted."""
        if (watch := self._watches.get(server)) is not None:
            watch.distrust()

    def heard(self, server: str) -> None:
        """Another worker or replica has found something."""
        if (watch := self._watches.get(server)) is not None:
            watch.ask()

    async def aclose(self) -> None:
        """Stop watching."""
        await asyncio.gather(*(watch.stop() for watch in self._watches.values()), *self._stopping)
        await self._client.aclose()

    def _watch(self, guard: Guard, office: Office) -> ContractWatch:
        recheck_s = guard.server.contract.recheck_s
        ledger = DriftLedger(self._pool, self._instance, _recorder(office), recheck_s)
        watch = ContractWatch(guard.contracts, _look(guard.server, office), ledger.publish, recheck_s)
        guard.watch = watch
        return watch

    def _step(self, hook: Hook) -> Step:
        if hook.python is not None:
            run = load_hook(hook.name, hook.python, self._registry.parent, hook.settings)
        elif hook.url is not None and hook.secret is not None:
            key = self._secrets.secret(hook.secret).reveal()
            run = Webhook(hook.name, hook.url, key, max_bytes=hook.max_bytes, client=self._client)
        else:
            raise HookConfigError(f"hook {hook.name}: a webhook needs a `secret`, with which its events are signed")
        return Step(hook.name, hook.event, run, hook.timeout_s, hook.tools, hook.required, hook.settings)


def _stamp(path: Path) -> tuple[int, ...]:
    """Return what changes when a file does: a lock that was not touched is not read again."""
    try:
        found = path.stat()
    except OSError:
        return _NEVER
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _look(server: Server, office: Office) -> Look:
    """Return the function that asks the server for everything it offers."""

    async def look() -> Catalogue:
        call = Call.arrive(server.name, "POST", (), "proxy")
        transport = RoadTransport(office.upstream(call), office.credentials(call), server.limits.response_bytes)
        return await read_catalogue(transport)

    return look


def _recorder(office: Office) -> Record:
    async def record(call: Call, outcome: Outcome) -> bool:
        return await office.record(None, call, outcome)

    return record


def _is_watched(guard: Guard) -> bool:
    return not guard.contracts.is_idle


def _check_pins(server: Server, pins: ServerLock | None) -> None:
    """The gate has compared them; this holds where the lock file was changed since."""
    for name, told in mismatches(server, pins):
        raise GuardError(
            f"servers.{server.name}.tools.{name}.contract: {told}; see `postern lock --diff {server.name}`"
        )
