"""The fleet as a whole: boots it, keeps a keeper for each member, makes what runs what is declared, tells how it is."""

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Any

from supervisor_plugin.client import SupervisorClient, SupervisordError
from supervisor_plugin.gatekeeper import Changed, Programs, ProxyNotice, RegistryRefusedError, read_registry
from supervisor_plugin.keeper import Keeper
from supervisor_plugin.ledger import Ledger, LedgerAwayError
from supervisor_plugin.names import PROXY
from supervisor_plugin.processes import Identity, boot_id, strays
from supervisor_plugin.reconcile import Deed, PlannedStep, Program, Recorded, World, plan, program_is_held
from supervisor_plugin.settings import Settings
from supervisor_plugin.states import Exited, Restart, Start, Status, Stop
from supervisor_plugin.units import Unit, make_units
from supervisor_plugin.works import Works, describe_end

REGISTRY_RETRY_S = 3.0
RECORDS_WAIT_S = 3.0
STARTS_AT_ONCE = 8

_log = logging.getLogger("postern.fleet")


class Controller:
    """One per listener. `closed` says why nothing may start now, or None while the gate is open."""

    def __init__(self, settings: Settings, client: SupervisorClient, ledger: Ledger) -> None:
        self.settings, self.client, self.ledger = settings, client, ledger
        self.keepers: dict[str, Keeper] = {}
        self.closed: str | None = "the registry was not checked yet"
        self.registry_note = ""
        self.counts: dict[str, dict[str, int]] = {"sessions": {}, "calls": {}}
        self.drift: dict[str, str] = {}
        self.is_stopping = False
        self.news = asyncio.Event()
        self.works = Works(client, ledger, settings.instance, settings.paths.logs, lambda: self.closed)
        self._notice = ProxyNotice(settings.instance)
        self._programs = Programs(settings.paths, settings.instance, client)
        self._boot_id = boot_id()
        self._turn = asyncio.Lock()
        self._slots = asyncio.Semaphore(STARTS_AT_ONCE)
        self._starts: set[asyncio.Task[None]] = set()
        self._look_wanted = asyncio.Event()
        ledger.when_connected = self.look_soon
        self._has_seen_records = self._was_connected = False

    # Boot and reconciliation

    async def boot(self) -> None:
        """Open the gate once the registry passes; then make what runs what is declared."""
        told = None
        while True:
            try:
                await self._boot_once()
            except RegistryRefusedError as error:
                self.closed = self.registry_note = f"registry refused: {error}"
            except SupervisordError as error:
                self.closed = str(error)
            else:
                return
            if self.closed != told:
                _log.error("the gate stays closed: %s", self.closed)
            told = self.closed
            await asyncio.sleep(REGISTRY_RETRY_S)

    async def _boot_once(self) -> None:
        async with self._turn:
            units = await self._accept()
            await self._pursue(units, is_boot=True, revives=False)

    async def reconcile(self, *, revives: bool) -> list[dict[str, Any]]:
        """Read the registry again, plan, do it; return what was done. A refused registry leaves the fleet as it is."""
        async with self._turn:
            try:
                units = await self._accept()
            except RegistryRefusedError as error:
                self.registry_note = f"refused, the fleet goes on under the old one: {error}"
                return [_result("registry", ok=False, message=self.registry_note)]
            return await self._pursue(units, is_boot=self.closed is not None, revives=revives)

    async def _accept(self) -> dict[str, Unit]:
        read_at_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        fleet = await read_registry(self.settings.paths.registry, self.settings.environ)
        has_proxy = self._programs.has_proxy
        units = make_units(fleet, self.settings.paths, self.settings.environ, with_proxy=has_proxy)
        changed = await self._programs.write(fleet)
        await self._replace_programs(changed)
        self.registry_note = ""
        self._notice.wanted_since(read_at_s)
        self._tell_proxy()
        return units

    def _tell_proxy(self) -> None:
        """Let the proxy read the registry too, as soon as it serves: the fleet and its proxy go by the same one."""
        keeper = self.keepers.get(PROXY)
        if keeper is not None and keeper.state.status is Status.RUNNING and keeper.state.process is not None:
            self._notice.give(keeper.state.process)

    async def _replace_programs(self, changed: Changed) -> None:
        going = (*changed.removed, *changed.replaced)
        for name in going:
            if (keeper := self.keepers.get(name)) is not None:
                keeper.tell(Stop("its definition changed"))
        await asyncio.gather(*(self._down(name) for name in going))
        await self._programs.renew(changed)

    async def _down(self, name: str) -> None:
        keeper = self.keepers.get(name)
        if keeper is not None:
            await keeper.settled()
            return
        await self.client.kill(name)
        await self.works.sweep(name)

    async def _pursue(self, units: dict[str, Unit], *, is_boot: bool, revives: bool) -> list[dict[str, Any]]:
        """Compare and act: what must end first, then the gate opens, then what must start."""
        world = await self._world(units, revives=revives)
        steps = plan(world)
        for step in steps:
            _log.info("plan: %s %s: %s", step.deed, step.name, step.reason)
        results = await self._end(steps)
        await self._drop(self.keepers.keys() - units.keys())
        for name, unit in units.items():
            await self._keep(name, unit)
        if is_boot and not self.is_stopping:
            self.closed = None
        return [*results, *self._begin(steps, world, units)]

    async def _world(self, units: dict[str, Unit], *, revives: bool) -> World:
        # First who carries our mark, then whom supervisord runs: what is started in between is no stray.
        marked = await self.works.marked()
        status = await self.client.status()
        programs = {server["name"]: _program(server) for server in status["servers"]}
        supervised = {name: program.process for name, program in programs.items() if program.process is not None}
        return World(
            boot_id=self._boot_id,
            instance=self.settings.instance,
            declared={name: await asyncio.to_thread(unit.declared) for name, unit in units.items()},
            recorded=await self._recorded(),
            programs=programs,
            strays=tuple(strays(marked, supervised)),
            managed={name: keeper.state.status for name, keeper in self.keepers.items()},
            revives=revives,
        )

    async def _recorded(self) -> dict[str, Recorded] | None:
        """Return the rows of this host; of what is managed already the keepers know better."""
        try:
            await self.ledger.wait_until_connected(RECORDS_WAIT_S)
            recorded = await self.ledger.recorded()
        except LedgerAwayError:
            recorded = None
        self._has_seen_records = self._has_seen_records or recorded is not None
        for name, keeper in self.keepers.items():
            known = Recorded(
                name, keeper.state.status, keeper.state.process, self._boot_id, self.settings.instance, keeper.binary
            )
            recorded = {**(recorded or {}), name: known}
        return recorded

    async def _end(self, steps: Iterable[PlannedStep]) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = []
        world = [step for step in steps if step.deed in (Deed.END_STRAY, Deed.STOP, Deed.FORGET)]
        ended = [step for step in world if step.deed is Deed.END_STRAY]
        if ended:
            left = await self.works.end([step.process for step in ended if step.process is not None])
            results += [_done(step, ok=step.process not in left) for step in ended]
        for step in world:
            if step.deed is Deed.STOP:
                if (keeper := self.keepers.get(step.name)) is not None:
                    keeper.tell(Stop(step.reason))
                await self._down(step.name)
                results.append(_done(step))
        for step in world:
            if step.deed is Deed.FORGET:
                await self._drop([step.name])
                self.ledger.forget(step.name)
                results.append(_done(step))
        return results

    async def _drop(self, names: Iterable[str]) -> None:
        for name in list(names):
            if (keeper := self.keepers.pop(name, None)) is not None:
                keeper.tell(Stop("no longer declared"))
                await keeper.settled()
                await keeper.close()

    async def _keep(self, name: str, unit: Unit) -> None:
        keeper = self.keepers.get(name)
        if keeper is None:
            self.keepers[name] = Keeper(unit, self.works, self.ledger, self.news.set)
        else:
            await keeper.replace_unit(unit)

    def _begin(self, steps: Iterable[PlannedStep], world: World, units: dict[str, Unit]) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = []
        for step in steps:
            keeper = self.keepers.get(step.name)
            if keeper is None or step.name not in units:
                continue
            recorded = (world.recorded or {}).get(step.name)
            match step.deed:
                case Deed.FINALISE:
                    seen_at = recorded.seen_at if recorded else None
                    keeper.finalise(step.reason, seen_at, is_held=program_is_held(world, step.name))
                case Deed.ADOPT if step.process is not None:
                    keeper.adopt(step.process, recorded.binary if recorded else world.declared[step.name].binary)
                case Deed.RESTART if step.process is not None:
                    if keeper.state.process is None:
                        keeper.adopt(step.process, None)
                    keeper.tell(Restart(step.reason))
                case Deed.REST if step.process is not None:
                    if keeper.state.process is None:
                        keeper.adopt(step.process, None)
                    keeper.tell(Stop(step.reason))
                case Deed.START:
                    self._start_soon(keeper)
                case _:
                    continue
            results.append(_done(step))
        return results

    def _start_soon(self, keeper: Keeper) -> None:
        task = asyncio.create_task(self._start(keeper))
        self._starts.add(task)
        task.add_done_callback(self._starts.discard)

    async def _start(self, keeper: Keeper) -> None:
        # Starting is what costs: with every server at once, each would miss its deadline on a small machine.
        async with self._slots:
            keeper.tell(Start())
            await keeper.settled()

    # What supervisord tells

    def look_soon(self) -> None:
        """Something may have changed: compare with supervisord."""
        self._look_wanted.set()

    async def watch(self, interval_s: float) -> None:
        """Compare with supervisord whenever told to, and every few seconds anyway; until cancelled."""
        while True:
            try:
                async with asyncio.timeout(interval_s):
                    await self._look_wanted.wait()
            except TimeoutError:
                pass
            self._look_wanted.clear()
            try:
                await self._look()
                self._tell_proxy()
                await self._welcome_database()
            except SupervisordError as error:
                _log.warning("%s", error)

    async def _welcome_database(self) -> None:
        """Do at once what waited for the database, when it is back; at the first time its rows are news, too."""
        was_connected, self._was_connected = self._was_connected, self.ledger.is_connected
        if was_connected or not self._was_connected or self.closed is not None:
            return
        if not self._has_seen_records:
            await self.reconcile(revives=False)
        for keeper in self.keepers.values():
            if keeper.state.wanted and keeper.state.refusals:
                keeper.tell(Start())

    async def _look(self) -> None:
        asked_at = time.monotonic()
        known = {name: keeper.state.process for name, keeper in self.keepers.items()}
        status = await self.client.status()
        for server in status["servers"]:
            keeper = self.keepers.get(server["name"])
            if keeper is not None:
                self._compare(keeper, server, asked_at, known.get(server["name"]))

    def _compare(self, keeper: Keeper, server: dict[str, Any], asked_at: float, known: Identity | None) -> None:
        # An operator's word that came after the question is newer than the answer.
        if server.get("held_since") and keeper.state.wanted and keeper.commanded_at < asked_at:
            keeper.tell(Stop())
        # What it knows only since then, the answer cannot know; the keeper ignores the end of any other process.
        if server.get("supervised") and known is not None and _program(server).process != known:
            wait_status = server.get("wait_status")
            log = self.settings.paths.logs / f"{keeper.unit.name}.log"
            keeper.tell(Exited(known, "it ended" if wait_status is None else describe_end(wait_status, log)))

    def stop_all(self) -> None:
        """Let nothing start any more: supervisord is stopping, and every row follows."""
        self.is_stopping, self.closed = True, "supervisord is stopping"
        for task in self._starts:
            task.cancel()
        for keeper in self.keepers.values():
            keeper.tell(Stop("supervisord is stopping"))

    # What people see

    def heartbeat(self, sequence: int, pid: int) -> dict[str, Any]:
        """Return what supervisord is told every second."""
        return {
            "pid": pid,
            "sequence": sequence,
            "gate": {"open": self.closed is None, "reason": self.closed or "the registry passed every check"},
            "fleet": {"registry": self.registry_note, "database": self.ledger.trouble},
            "servers": {name: self.summary(keeper) for name, keeper in self.keepers.items()},
        }

    def summary(self, keeper: Keeper) -> dict[str, Any]:
        """Return one server's part of the heartbeat."""
        name = keeper.unit.name
        counted = {key: counts.get(name, 0) for key, counts in self.counts.items()} if self.ledger.is_connected else {}
        drift = {"drift": self.drift[name]} if name in self.drift else {}
        return {**keeper.summary(), **drift, **(counted if keeper.unit.kind != "proxy" else {})}

    def write_final_rows(self, reason: str) -> None:
        """Record that nothing runs any more."""
        for keeper in self.keepers.values():
            if keeper.unit.kind != "proxy" and keeper.state.status is not Status.STOPPED:
                keeper.finish(reason)

    async def close(self) -> None:
        """Stop looking after everything; processes are left as they are."""
        for task in self._starts:
            task.cancel()
        await asyncio.gather(*(keeper.close() for keeper in self.keepers.values()))


def _program(server: dict[str, Any]) -> Program:
    process = Identity(server["pid"], server["ticks"]) if server.get("pid") else None
    is_stopping = server.get("program_state") == "STOPPING"
    return Program(server["name"], process, bool(server.get("held_since")), is_stopping)


def _done(step: PlannedStep, *, ok: bool = True) -> dict[str, Any]:
    where = f" (pid {step.process.pid})" if step.process else ""
    return _result(step.name, ok=ok, message=f"{step.deed}{where}: {step.reason}")


def _result(name: str, *, ok: bool, message: str) -> dict[str, Any]:
    return {"name": name, "ok": ok, "message": message}
