"""`postern probe NAME`: one health check of one server, internal or external, from here and now."""

import asyncio
import json
import os
import sys
import time
from typing import Any

import click

from registry.check_cli import registry_file, registry_option, state_directory
from registry.models import Fleet
from supervisor_plugin import ports
from supervisor_plugin.client import SupervisorClient, SupervisordError
from supervisor_plugin.exchange import ProbeError
from supervisor_plugin.gatekeeper import RegistryRefusedError, read_registry
from supervisor_plugin.processes import start_ticks
from supervisor_plugin.settings import Settings
from supervisor_plugin.tables import clock, span
from supervisor_plugin.units import Unit, make_units

OK, FINDINGS, USAGE, CANNOT_START = range(4)
FLEET_FIELDS = ("status", "health", "reason", "failures", "restarts", "since", "down_since")


@click.command("probe")
@click.argument("name")
@registry_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str, file: str | None, as_json: bool) -> None:
    """Test the connection to one server: a real MCP exchange, and who listens on its port."""
    path = registry_file(file, os.environ)
    where = {"POSTERN_REGISTRY": str(path), "POSTERN_STATE_DIR": str(state_directory(path, os.environ))}
    settings = Settings.from_env({**os.environ, **where})
    try:
        result = asyncio.run(_probe(settings, name))
    except RegistryRefusedError as error:
        click.echo(f"postern probe: {error}", err=True)
        sys.exit(CANNOT_START)
    click.echo(json.dumps(result, indent=2) if as_json else render(result))
    sys.exit(OK if result["healthy"] else FINDINGS)


async def _probe(settings: Settings, name: str) -> dict[str, Any]:
    fleet = await read_registry(settings.paths.registry, settings.environ)
    units = make_units(fleet, settings.paths, settings.environ, with_proxy=False)
    if name not in units:
        raise RegistryRefusedError(_unknown(name, fleet))
    return await probe_unit(units[name]) | await _seen_by_the_fleet(SupervisorClient(settings.paths.socket), name)


def _unknown(name: str, fleet: Fleet) -> str:
    if name in fleet.servers:
        return f"server {name} is not enabled"
    return f"there is no server {name}; there are: {', '.join(fleet.servers) or 'none'}"


async def probe_unit(unit: Unit) -> dict[str, Any]:
    """Check once; a check that does not pass is a result, too."""
    result: dict[str, Any] = {"name": unit.name, "type": unit.kind, "healthy": False, "reason": ""}
    probe = unit.make_probe()
    try:
        report = await probe.check()
    except ProbeError as error:
        result["reason"] = str(error)
    else:
        result |= {
            "healthy": True,
            "latency_ms": round(report.latency_ms, 1),
            "era": report.era,
            "protocol_versions": list(report.protocol_versions),
            "tool_count": report.tool_count,
        }
    finally:
        await probe.close()
    return result | (_process(unit.port) if unit.port is not None else {})


async def _seen_by_the_fleet(client: SupervisorClient, name: str) -> dict[str, Any]:
    """What the running fleet knows from its own checks; nothing where no fleet runs here."""
    try:
        status = await client.status()
    except SupervisordError:
        return {}
    for server in status["servers"]:
        if server["name"] == name:
            down_since = server.get("down_since")
            down_s = None if down_since is None else round(status["now"] - down_since, 1)
            return {"fleet": {**{key: server.get(key) for key in FLEET_FIELDS}, "down_s": down_s}}
    return {}


def _process(port: int) -> dict[str, Any]:
    holder = ports.holder(port)
    pid = holder.pid if holder else None
    return {"port": port, "pid": pid, "process": holder.name if holder else None, "uptime_s": _uptime_s(pid)}


def _uptime_s(pid: int | None) -> float | None:
    ticks = start_ticks(pid) if pid is not None else 0
    if not ticks:
        return None
    return round(time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"), 1)


def render(result: dict[str, Any]) -> str:
    """Show a result, one fact a line."""
    words = "healthy" if result["healthy"] else f"NOT healthy: {result['reason']}"
    lines = [f"{result['name']} ({result['type']}): {words}"]
    if result["healthy"]:
        versions = ", ".join(result["protocol_versions"]) or "-"
        lines.append(f"  {result['latency_ms']} ms, {result['era']} protocol {versions}, {result['tool_count']} tools")
    if "port" in result:
        uptime = f", up {span(result['uptime_s'])}" if result["uptime_s"] is not None else ""
        holder = f"pid {result['pid']} ({result['process']}){uptime}" if result["pid"] else "nobody we can see"
        lines.append(f"  port {result['port']}: {holder}")
    if (seen := result.get("fleet")) is not None:
        lines.append(f"  the fleet says: {_in_words(seen, time.time())}")
    return "\n".join(lines)


def _in_words(seen: dict[str, Any], now: float) -> str:
    since = f" since {clock(seen['since'], now)} UTC" if seen["since"] is not None else ""
    words = [f"{seen['status']}, {seen['health']}{since}", f"{seen['failures'] or 0} failed checks in a row"]
    if seen["down_s"] is not None:
        words.append(f"down for {span(seen['down_s'])}")
    return ", ".join([*words, *([seen["reason"]] if seen["reason"] else [])])
