"""What a keeper does to the world: look at program and port, spawn, stop, sweep, confirm. Each outcome is an event."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

from supervisor_plugin import ports
from supervisor_plugin.client import SupervisorClient, SupervisordError
from supervisor_plugin.exchange import ProbeError
from supervisor_plugin.ledger import Ledger, LedgerAwayError
from supervisor_plugin.names import EXIT_CONFIG, EXIT_NOT_EXECUTABLE, LAUNCHER_PREFIX
from supervisor_plugin.processes import Identity, Marked, is_alive, marked_processes, signal_ours, tree
from supervisor_plugin.states import Drained, Exited, Gone, Left, Prepared, Refused, Spawned, SpawnFailed
from supervisor_plugin.units import Unit

LEDGER_WAIT_S = 1.0
LOCK_WAIT_S = 5.0
PORT_TRIES, PORT_FIRST_WAIT_S, PORT_MAX_WAIT_S = 6, 0.05, 1.0
SWEEP_GRACE_S, SWEEP_KILL_S = 2.0, 3.0
NOTICE_S = 0.15
DRAIN_POLL_S = 0.1
DRAIN_HORIZON_S = 600.0


class Works:
    """One per listener. `gate` says why nothing may start now, or None."""

    def __init__(
        self, client: SupervisorClient, ledger: Ledger, instance: str, logs: Path, gate: Callable[[], str | None]
    ) -> None:
        self._client, self._ledger, self._instance = client, ledger, instance
        self._logs, self._gate = logs, gate

    # Start

    async def prepare(self, unit: Unit, turn: int) -> tuple[Prepared | Refused, str | None]:
        """Take the server's lock, find its program, end what is left of it, make sure that its port is free."""
        try:
            await self._permission(unit)
            binary = await asyncio.to_thread(unit.identify)
            left = await self.sweep(unit.name)
            if left:
                return Refused(turn, f"left over and not to be ended: {_pids(left)}"), binary
            await self._wait_for_port(unit)
        except _NotNowError as error:
            return Refused(turn, str(error), counts=False), None
        except OSError as error:
            return Refused(turn, f"its program cannot be started: {error}"), None
        except _PortTakenError as error:
            return Refused(turn, str(error)), None
        return Prepared(turn), binary

    async def _permission(self, unit: Unit) -> None:
        if (closed := self._gate()) is not None:
            raise _NotNowError(f"the gate is closed: {closed}")
        try:
            await self._ledger.wait_until_connected(LEDGER_WAIT_S)
            owner = await self._locked(unit.name)
        except LedgerAwayError as error:
            raise _NotNowError(f"not without the database: {error}") from error
        if owner is not None:
            raise _NotNowError(f"fleet {owner} on this host looks after a server of this name in the same database")

    async def _locked(self, server: str) -> str | None:
        # The lock of a listener that was killed just now is free as soon as PostgreSQL has noticed.
        limit = asyncio.get_running_loop().time() + LOCK_WAIT_S
        while (owner := await self._ledger.lock(server)) is not None:
            if asyncio.get_running_loop().time() > limit:
                return owner
            await asyncio.sleep(0.1)
        return None

    async def _wait_for_port(self, unit: Unit) -> None:
        if unit.port is None:
            return
        wait_s = PORT_FIRST_WAIT_S
        for _ in range(PORT_TRIES):
            if ports.is_free(unit.port):
                return
            await asyncio.sleep(wait_s)
            wait_s = min(PORT_MAX_WAIT_S, wait_s * 2)
        found = await asyncio.to_thread(ports.holder, unit.port)
        raise _PortTakenError(
            f"port {unit.port} is held by {found or 'nobody who listens'}, which is not ours; "
            "stop that process, or give the server another port"
        )

    async def spawn(self, unit: Unit, turn: int) -> Spawned | SpawnFailed:
        """Have supervisord spawn it."""
        try:
            pid, ticks = await self._client.spawn(unit.name)
        except SupervisordError as error:
            return SpawnFailed(turn, f"supervisord does not spawn it: {error}")
        return Spawned(turn, Identity(pid, ticks))

    # Stop

    async def drain(self, unit: Unit, turn: int) -> Drained:
        """Wait until no call is in flight; the row says by then that no new one may come. The keeper limits it."""
        if unit.kind == "proxy":
            return Drained(turn)
        with contextlib.suppress(LedgerAwayError):  # without the database the proxy lets no call through
            await self._ledger.flush(LEDGER_WAIT_S)
            await asyncio.sleep(NOTICE_S)
            while (await self._ledger.calls(DRAIN_HORIZON_S)).get(unit.name, 0):  # noqa: ASYNC110 - a table, no event
                await asyncio.sleep(DRAIN_POLL_S)
        return Drained(turn)

    async def terminate(self, unit: Unit, process: Identity) -> Exited:
        """Ask it and its group to end, through supervisord, which kills after the grace; return when it has ended."""
        try:
            await self._client.kill(unit.name)
        except SupervisordError:
            signal_ours(process, self._instance, signal.SIGTERM)
        await wait_gone(process)
        return Exited(process, "was stopped")

    async def kill(self, unit: Unit, process: Identity) -> None:
        """Kill it ourselves: supervisord should have done so long ago."""
        del unit
        signal_ours(process, self._instance, signal.SIGKILL)

    async def confirm(self, unit: Unit, turn: int) -> Gone | Left:
        """End what it has left behind and see that its port is free of us."""
        left = await self.sweep(unit.name)
        return Left(turn, f"left over and not to be ended: {_pids(left)}") if left else Gone(turn)

    async def sweep(self, server: str) -> list[Identity]:
        """End every process that carries this server's mark; return what is left."""
        return await self.end(process.identity for process in await self.marked() if process.server == server)

    async def end(self, processes: Iterable[Identity]) -> list[Identity]:
        """TERM, then KILL, whoever is provably ours; return who is left."""
        alive = list(processes)
        for number, wait_s in ((signal.SIGTERM, SWEEP_GRACE_S), (signal.SIGKILL, SWEEP_KILL_S)):
            for identity in alive:
                signal_ours(identity, self._instance, number)
            alive = await still_there(alive, wait_s)
            if not alive:
                break
        return alive

    async def marked(self) -> list[Marked]:
        """Find what carries the fleet's mark."""
        return await asyncio.to_thread(marked_processes, self._instance)

    # Checks

    async def how_it_ended(self, unit: Unit, process: Identity) -> str | None:
        """Return how a process ended, or None while it lives."""
        if is_alive(process):
            return None
        with contextlib.suppress(SupervisordError):
            status = await self._client.status()
            for server in status["servers"]:
                if server["name"] == unit.name and server.get("wait_status") is not None and not server.get("pid"):
                    return describe_end(server["wait_status"], self._logs / f"{unit.name}.log")
        return "it ended"

    async def verify_port(self, unit: Unit, process: Identity) -> None:
        """Make sure that this process's tree answers, to the proxy only; raise ProbeError if it is not so."""
        if unit.port is None:
            return
        family = await asyncio.to_thread(tree, process.pid)
        if unit.port not in await asyncio.to_thread(ports.ports_of, family):
            found = await asyncio.to_thread(ports.holder, unit.port)
            raise ProbeError(f"port {unit.port} is answered by {found}, not by this server")
        addresses = await asyncio.to_thread(ports.open_addresses, family, unit.port)
        if addresses and unit.is_loopback_only:
            raise ProbeError(
                f"it listens on {', '.join(addresses)}, where calls can pass the proxy by; make it listen on 127.0.0.1 "
                "({host} in its command), or declare lifecycle.beyond_loopback"
            )

    async def explain_failure(self, unit: Unit, process: Identity | None, reason: str) -> str:
        """Add to a failed check where the server listens instead."""
        if process is None or unit.port is None:
            return reason
        listening = await asyncio.to_thread(lambda: ports.ports_of(tree(process.pid)))
        if listening and unit.port not in listening:
            found = ", ".join(str(port) for port in sorted(listening))
            return f"{reason}; it listens on port {found} instead of {unit.port}"
        return reason


class _NotNowError(Exception):
    """A reason for which the server is not to blame."""


class _PortTakenError(Exception):
    """Somebody else has the port."""


async def wait_gone(identity: Identity) -> None:
    """Wait until a process has ended, however long that takes."""
    if not is_alive(identity):
        return
    try:
        descriptor = os.pidfd_open(identity.pid)
    except OSError:
        return
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ended.set)
    try:
        if is_alive(identity):
            await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def still_there(identities: Iterable[Identity], timeout_s: float) -> list[Identity]:
    """Wait until all have ended; return those that have not within the limit."""
    waiting = [identity for identity in identities if is_alive(identity)]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await asyncio.gather(*(wait_gone(identity) for identity in waiting))
    return [identity for identity in waiting if is_alive(identity)]


def describe_end(wait_status: int, log: Path) -> str:
    """Say how a process ended; the launcher's own words are added, a server's never, because they may hold anything."""
    code = os.waitstatus_to_exitcode(wait_status)
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    if code in (EXIT_CONFIG, EXIT_NOT_EXECUTABLE) and (said := _last_words(log)):
        return f"could not be launched: {said}"
    return f"exited with status {code}"


def _last_words(log: Path) -> str:
    with contextlib.suppress(OSError):
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode("utf-8", "replace").splitlines()
        return next((line.removeprefix(LAUNCHER_PREFIX) for line in reversed(lines) if LAUNCHER_PREFIX in line), "")
    return ""


def _pids(identities: Iterable[Identity]) -> str:
    return ", ".join(f"pid {identity.pid}" for identity in identities)
