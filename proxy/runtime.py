"""One worker's parts, wired: opened from settings and a fleet, changed by a reload, closed in order."""

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import monotonic, time
from typing import Self

from proxy.admin import AdminDoor
from proxy.audit.hidden import Hidden
from proxy.audit.keys import KEYS, signer_in
from proxy.audit.notary import Notary
from proxy.audit.reconcile import close_interrupted, close_interrupted_forever
from proxy.audit.writer import AuditWriter
from proxy.auth.bearer import ServerAuth
from proxy.auth.nonces import PostgresNonces
from proxy.authorize import Policy
from proxy.availability import CHANNEL as SERVICES_CHANNEL
from proxy.availability import ServiceBoard
from proxy.background import Background, Job
from proxy.door import Door
from proxy.edge import HttpExchange
from proxy.exchange import Header
from proxy.execution.ends import DRAINING
from proxy.executor import Executor
from proxy.guard.drift_record import CHANNEL as CONTRACTS_CHANNEL
from proxy.guard.makers import Guards
from proxy.metrics import Figures
from proxy.notifications import listen
from proxy.pipeline import Pipeline
from proxy.roads import Road, limits_of
from proxy.routes import Route
from proxy.sessions.keeper import SessionKeeper
from proxy.sessions.store import CHANNEL as SESSIONS_CHANNEL
from proxy.sessions.store import Sessions
from proxy.settings import Settings
from proxy.shared import Shared
from proxy.states import States, load_key
from proxy.withdrawal import end_withdrawn
from registry.database.pool import create_pool
from registry.database.tables import require_tables
from registry.models import Fleet, Server
from registry.secrets import SecretReader

_log = logging.getLogger("postern.runtime")


class Runtime:
    """What a worker needs to answer requests. Use `async with Runtime(settings, fleet, secrets)`."""

    exchange_type: type[HttpExchange] = HttpExchange
    """What every request becomes; a subclass may put something in between."""

    def __init__(self, settings: Settings, fleet: Fleet, secrets: SecretReader) -> None:
        self.settings = settings
        self.fleet = fleet
        self.draining = False
        self.refused_reload: str | None = None
        self._secrets = secrets
        self._stack = AsyncExitStack()
        self.roads: dict[str, Road] = {}
        self._routes: dict[str, Route] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self.background = Background()

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _open(self) -> None:
        settings, fleet = self.settings, self.fleet
        self.pool = await create_pool(settings.dsn)
        self._stack.push_async_callback(self.pool.close)
        await self.check_tables(fleet)
        self.audit = await AuditWriter.open(
            settings.dsn, instance=settings.instance, step=fleet.audit.partition, notary=self._notary()
        )
        self._stack.push_async_callback(self.audit.aclose)
        self.sessions = Sessions(self.pool, monotonic, time)
        self._states = States(await load_key(self.pool))
        self.board = ServiceBoard(self.pool, settings.host)
        self._nonces = PostgresNonces(self.pool)
        await self.board.refresh()
        self._guards = Guards(settings.registry, self._secrets, self.pool, settings.instance)
        self._guards.read(fleet)
        shared = Shared.of(fleet)
        for server in fleet.enabled_servers():
            credentials = self._credentials(server)
            self.roads[server.name] = road = Road(server, credentials, settings.state_dir)
            self._routes[f"/{server.name}/mcp"] = self._route(fleet, server, shared, road.hiding(credentials))
        self._stack.push_async_callback(self._close_roads)
        self.admin = AdminDoor(fleet, self._secrets)
        self.executor = self.make_executor()
        self._guards.adopt(self.executor)
        self._stack.push_async_callback(self._guards.aclose)
        self.keeper = SessionKeeper(self.sessions, self.executor.live, self._servers, self.executor.discard_session)
        self.pipeline = Pipeline(self._routes, _door(fleet), self.sessions, self.board, self.executor)
        async with self.pool.acquire() as connection:
            if closed := await close_interrupted(connection, self.audit):
                _log.warning("%d requests of a proxy that ended were closed as interrupted", closed)
        self._start_background()

    async def check_tables(self, fleet: Fleet) -> None:
        """Hold the declared tables of a fleet to the database; raise `TablesError` where a strict one is not so."""
        await require_tables(fleet, self.settings.dsn, self._secrets.reveal)

    def _servers(self) -> Sequence[Server]:
        return self.fleet.enabled_servers()

    def _notary(self) -> Notary:
        """Signs the heads of this worker's chain, into the table and into a file outside the database (SPEC A6)."""
        settings, state = self.fleet.audit, self.settings.state_dir
        folder = state / KEYS
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = Path(settings.checkpoint_file) if settings.checkpoint_file else folder / "checkpoints.jsonl"
        return Notary(signer_in(folder), file, settings.checkpoint_s)

    def make_executor(self) -> Executor:
        """The one executor of this worker; a subclass may put something between it and its collaborators."""
        return Executor(self.audit, self.roads, self.sessions, self.fleet.audit)

    def apply(self, fleet: Fleet) -> list[str]:
        """Run under a new fleet from now on; return the names of the servers whose section changed.

        Roads of unchanged servers stay open, so that a rotated key of one server drops no request of another. Every
        door and policy is made anew: keys are read again, and permissions or agents may have changed. So are the
        credentials for the servers, which may have a new value behind the same reference. Streams that nobody could
        open now end.
        """
        before = {server.name: server for server in self.fleet.enabled_servers()}
        after = {server.name: server for server in fleet.enabled_servers()}
        changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        credentials = {name: self._credentials(server) for name, server in after.items()}
        roads = {
            name: Road(after[name], credentials[name], self.settings.state_dir)
            for name in changed
            if name in after and _is_rerouted(before, after, name)
        }
        shared = Shared.of(fleet)
        self._guards.read(fleet)
        ahead = {**self.roads, **roads}
        routes = {
            f"/{name}/mcp": self._route(fleet, server, shared, ahead[name].hiding(credentials[name]))
            for name, server in after.items()
        }
        self.admin = AdminDoor(fleet, self._secrets)
        self.fleet = fleet
        retired = [self.roads.pop(name) for name in before if name in roads or name not in after]
        self.roads.update(roads)
        for name, road in self.roads.items():
            road.present(credentials[name])
        self._routes.clear()
        self._routes.update(routes)
        self.pipeline.adopt(_door(fleet))
        self._guards.adopt(self.executor)
        withdrawing = end_withdrawn(self.executor.live, self._routes, datetime.now(UTC))
        for job in (*(road.retire() for road in retired), withdrawing):
            self._retiring.add(task := asyncio.create_task(job))
            task.add_done_callback(self._retiring.discard)
        return changed

    def _credentials(self, server: Server) -> list[Header]:
        return [(h.name.lower().encode(), self._secrets.secret(h.value).reveal()) for h in server.headers]

    def _route(self, fleet: Fleet, server: Server, shared: Shared, hidden: Hidden) -> Route:
        auth = ServerAuth.build(fleet, server, self._secrets, self._nonces, shared)
        policy = Policy.build(fleet, server, shared)
        stream_limits = replace(limits_of(server), total_s=None, idle_s=math.inf)
        return Route(
            server=server,
            audience=fleet.audience(server),
            auth=auth,
            policy=policy,
            payload_bytes=fleet.audit.payload_bytes,
            stream_limits=stream_limits,
            guard=self._guards.make(server),
            states=self._states,
            hidden=hidden,
        )

    async def _close_roads(self) -> None:
        for road in self.roads.values():
            await road.aclose()

    def _start_background(self) -> None:
        handlers = {
            SERVICES_CHANNEL: self._services_changed,
            SESSIONS_CHANNEL: self.keeper.changed,
            CONTRACTS_CHANNEL: self._guards.heard,
        }
        jobs: dict[str, Job] = {
            "services": self.board.run,
            "notifications": partial(
                listen, self.settings.dsn, self.pool, handlers, self._may_have_missed, self.sessions.heard
            ),
            "sessions": self.keeper.run,
            "interrupted": partial(close_interrupted_forever, self.audit, step=self.fleet.audit.partition),
            "nonces": partial(self._nonces.prune_forever, time),
        }
        self._stack.push_async_callback(self.background.aclose)
        for name, job in jobs.items():
            self.background.keep(name, job)

    def _services_changed(self, server: str) -> None:
        self.board.notify()
        self._guards.changed(server)

    def _may_have_missed(self) -> None:
        self.board.notify()
        self.keeper.missed_some()

    def drain(self) -> None:
        """Get no more traffic, and let those with a stream open it elsewhere; what else is under way may finish."""
        self.draining = True
        self.executor.live.end_streams(DRAINING)

    def figures(self) -> Figures:
        """Return what `/metrics` shows of this worker."""
        drift = {name: findings for name, (_, findings) in self._guards.observed().items()}
        audit = self.audit
        jobs = self.background
        ended, unwell = jobs.failures(), jobs.unwell()
        return Figures(audit.counters, audit.healthy, self.executor.in_flight, audit.queued, drift, ended, {*unwell})

    def unready(self) -> str | None:
        """Why this worker should get no traffic; None if it should."""
        if self.draining:
            return "draining"
        return None if self.audit.healthy else "the audit store is not reachable"


def _is_rerouted(before: Mapping[str, Server], after: Mapping[str, Server], name: str) -> bool:
    """Whether the way to the server changed, and not only its rules."""
    old, new = before.get(name), after[name]
    return old is None or _way(old) != _way(new)


def _way(server: Server) -> tuple[object, ...]:
    return (
        server.type,
        server.transport,
        server.endpoint,
        server.port,
        server.path,
        server.timeouts,
        server.limits,
        server.headers,
    )


def _door(fleet: Fleet) -> Door:
    return Door(fleet.public_url(), fleet.proxy)
