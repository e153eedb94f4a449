"""Whether the ports that the fleet needs are free, and who has those that are not."""

from collections.abc import Iterator

from registry.layout import Layout
from registry.models import Fleet
from supervisor_plugin import ports
from supervisor_plugin.processes import PROC, environment_of
from supervisor_plugin.up.errors import PortsTakenError

_SHOWN = 100


def check_ports(fleet: Fleet, layout: Layout) -> None:
    """Raise PortsTakenError if a port is taken: which, by whom, and where to choose another one."""
    taken = [_complaint(pointer, port, layout) for pointer, port in wanted_ports(fleet) if not ports.is_free(port)]
    if taken:
        raise PortsTakenError("\n".join(taken))


def wanted_ports(fleet: Fleet) -> Iterator[tuple[tuple[str, ...], int]]:
    """Return every port that the fleet itself will listen on, with its place in the registry."""
    yield ("proxy", "port"), fleet.proxy.port
    for server in fleet.enabled_servers():
        if server.type == "internal" and server.port is not None:
            yield ("servers", server.name, "port"), server.port


def _complaint(pointer: tuple[str, ...], port: int, layout: Layout) -> str:
    holder = ports.holder(port)
    who, stop = "a process that cannot be seen from here", "stop it"
    if holder is not None:
        who = str(holder)
        if holder.pid is not None:
            who, stop = f"{who}: {_command(holder.pid)}", _way_to_stop(holder.pid)
    return f"port {port} is taken by {who}\n  {stop}, or choose another {'.'.join(pointer)} at {layout.place(pointer)}"


def _way_to_stop(pid: int) -> str:
    """Say how; what a supervisord keeps running would only come back after a kill."""
    environment = environment_of(pid)
    if not environment.get("POSTERN_FLEET"):
        return f"stop it (kill {pid})"
    state = environment.get("POSTERN_STATE_DIR")
    where = f"`postern down --state-dir {state}`" if state else "`postern down` in its directory"
    return f"end the fleet that it belongs to ({where}; kill {pid} if that one is not up)"


def _command(pid: int) -> str:
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return "?"
    line = " ".join(word.decode(errors="replace") for word in words)
    shown = "".join(character if character.isprintable() else " " for character in line)
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
