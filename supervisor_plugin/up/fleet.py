"""supervisord as our child: started, watched until the whole fleet is healthy, stopped with one SIGTERM."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

from registry.models import Fleet
from supervisor_plugin.client import SupervisorClient, SupervisordError
from supervisor_plugin.config import LISTENER, PROXY, supervisord_argv
from supervisor_plugin.paths import Paths
from supervisor_plugin.up.display import Say
from supervisor_plugin.up.errors import FleetError
from supervisor_plugin.up.readiness import Verdict, judge

POLL_S = 0.1
START_LIMIT_S = 45.0
LISTENER_START_S = 20.0
LISTENER_STOP_S = 30.0
TAIL_LINES = 12


class RunningFleet:
    """One supervisord and all that it runs."""

    def __init__(self, paths: Paths, fleet: Fleet) -> None:
        self._paths, self._fleet = paths, fleet
        self._client = SupervisorClient(paths.socket)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def stop_limit_s(self) -> float:
        """How long a stop may take: the proxy drains, then the servers stop at once, then the listener."""
        graces = [server.lifecycle.stop_grace_s for server in self._fleet.enabled_servers()]
        return self._fleet.proxy.drain_s + 5 + max(graces, default=0) + LISTENER_STOP_S

    async def start(self) -> None:
        """Start supervisord in a process group of its own: the terminal's Ctrl-C reaches us, and we tell it once."""
        tied = (self._paths.python, "-P", "-m", "supervisor_plugin.up.tied", str(os.getpid()))
        output = os.open(self._output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *tied,
                *supervisord_argv(self._paths),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._paths.registry.parent,
                process_group=0,
            )
        finally:
            os.close(output)

    async def until_healthy(self, say: Say) -> None:
        """Wait for every internal server and the proxy; raises FleetError with the reason and the log's last lines."""
        wanted = [server.name for server in self._fleet.enabled_servers() if server.type == "internal"] + [PROXY]
        verdict = Verdict(dict.fromkeys(wanted, "not started"), {})
        budgets = [server.health.start_budget_s for server in self._fleet.enabled_servers()]
        began = asyncio.get_running_loop().time()
        while not verdict.is_up:
            self._raise_if_ended()
            verdict = await self._judge(wanted) or verdict
            say(_progress(wanted, verdict))
            waited_s = asyncio.get_running_loop().time() - began
            limit_s = START_LIMIT_S + max(budgets, default=0) if verdict.is_led else LISTENER_START_S
            if verdict.lost or waited_s > limit_s:
                raise FleetError(self._complaint(verdict))
            await asyncio.sleep(POLL_S)

    async def unhealthy_externals(self) -> dict[str, str]:
        """Return the external servers that cannot be called now; their absence does not stop the fleet."""
        wanted = [server.name for server in self._fleet.enabled_servers() if server.type == "external"]
        verdict = await self._judge(wanted)
        return {**verdict.waiting, **verdict.lost} if verdict is not None else {}

    async def legacy_servers(self, version: str) -> set[str]:
        """Return the servers of which the health checks know that they do not speak this version."""
        try:
            members = (await self._client.status())["servers"]
        except SupervisordError:
            return set()
        return {each["name"] for each in members if version not in (each.get("protocol_versions") or [version])}

    async def ended(self) -> None:
        """Wait for supervisord's end, which nobody asked for, and raise it as FleetError."""
        if self._process is not None:
            await self._process.wait()
        self._raise_if_ended()

    async def stop(self, hurry: Callable[[], bool]) -> None:
        """End everything: one SIGTERM, SIGKILL at the limit or when `hurry` says so."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.stop_limit_s):
                while process.returncode is None and not hurry():  # noqa: ASYNC110 - two things are waited for
                    await asyncio.sleep(POLL_S / 2)
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()

    async def _judge(self, wanted: Iterable[str]) -> Verdict | None:
        try:
            return judge(await self._client.status(), wanted)
        except SupervisordError:
            return None

    def _raise_if_ended(self) -> None:
        code = self._process.returncode if self._process is not None else 0
        if code is not None:
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            log = self._paths.logs / "supervisord.log"
            raise FleetError("\n".join([f"supervisord {how}; its log: {log}", *_tail(self._output)]))

    def _complaint(self, verdict: Verdict) -> str:
        if verdict.gate is not None:
            crash, log = (self._paths.logs / f"{LISTENER}.{kind}" for kind in ("err", "log"))
            last = _tail(crash) or _tail(log)
            return "\n".join([f"nothing may start: {verdict.gate}", *last, f"  (the listener's log: {log})"])
        lines: list[str] = []
        for name, reason in (verdict.lost or verdict.waiting).items():
            log = self._paths.logs / f"{name}.log"
            lines += [f"{name} did not come up: {reason}", *_tail(log), f"  (its log: {log})"]
        return "\n".join(lines)

    @property
    def _output(self) -> Path:
        return self._paths.logs / "supervisord.out"


def _progress(wanted: list[str], verdict: Verdict) -> str:
    if verdict.gate is not None:
        return verdict.gate
    left = ", ".join(f"{name}: {why}" for name, why in {**verdict.lost, **verdict.waiting}.items())
    healthy = len(wanted) - len(verdict.waiting) - len(verdict.lost)
    return f"{healthy}/{len(wanted)} healthy" + (f" ({left[:100]})" if left else "")


def _tail(log: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return [f"  {line}" for line in log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]]
    return []
