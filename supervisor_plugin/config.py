"""Registry to supervisord: the text of `supervisord.conf` and of one file per program.

How the fleet is brought up (`up.py` uses exactly this):

    paths = Paths(state=..., registry=..., dsn_file=..., proxy_dsn_file=...)   # paths.py; absolute paths
    conf = write_supervisord_config(fleet, paths)     # state directories, main file, conf.d/*.conf
    process = Popen(supervisord_argv(paths), ...)     # in the foreground; one SIGTERM ends everything
    await SupervisorClient(paths.socket).status()     # client.py: what `fleet status --json` prints

Every program has `autostart=false`: the listener starts the proxy and the servers after the gate. Text that the format
of supervisord cannot carry is refused as `ConfigError`, never written in a way that means something else.
"""

import math
import os
import re
import resource
import shlex
from collections.abc import Mapping
from pathlib import Path

from registry.models import Fleet, Server
from supervisor_plugin.names import LISTENER, PROXY
from supervisor_plugin.paths import Paths, hold_exactly, instance_id, prepare, write_private
from supervisor_plugin.sections import write_sections

RESERVED = frozenset({LISTENER, PROXY})
_UNCARRIABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|(?:^|\s)[;#]|^\s|\s$")
_UNQUOTABLE = re.compile(r"[\"\\]|^'|'$")


class ConfigError(ValueError):
    """Something that a supervisord configuration file cannot express."""


def escape(value: str) -> str:
    """Write a value so that supervisord reads exactly it: `%` doubled; what its parser would cut or join is refused."""
    if _UNCARRIABLE.search(value):
        raise ConfigError(f"supervisord.conf cannot carry {value!r}: no control characters, ` ;`, ` #` or outer spaces")
    return value.replace("%", "%%")


def _log_file(paths: Paths, name: str) -> str:
    """Write the address of a program's log, whose `%` supervisord expands twice, unlike that of any other value."""
    return escape(escape(str(paths.logs / name)))


def environment(variables: Mapping[str, str]) -> str:
    """Write `environment=`, whose parser knows quotes but no escape inside them."""
    for name, value in variables.items():
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name) or _UNQUOTABLE.search(value):
            raise ConfigError(
                f"supervisord.conf cannot carry the environment variable {name}={value!r}: quotes, backslash"
            )
    return escape(",".join(f'{name}="{value}"' for name, value in variables.items()))


def section(name: str, options: Mapping[str, str]) -> str:
    """Write one section; a multi-line value cannot occur, because `escape` refuses line ends."""
    return "\n".join([f"[{name}]", *(f"{key} = {value}" for key, value in options.items()), ""])


def main_file(paths: Paths, instance: str) -> str:
    """Write the main file. supervisorctl does not read [include], so whatever it needs stands here."""
    supervisord = {
        "nodaemon": "true",
        "silent": "true",  # its own stdout may be a pipe that nobody drains, and then it would freeze
        "identifier": "postern",
        "logfile": escape(str(paths.logs / "supervisord.log")),
        "logfile_maxbytes": "20MB",
        "logfile_backups": "3",
        "pidfile": escape(str(paths.pidfile)),
        "childlogdir": escape(str(paths.logs)),
        "minfds": str(_minfds()),
    }
    if os.geteuid() == 0:
        supervisord["user"] = "root"
    interface = "supervisor.rpcinterface_factory"
    url = escape(f"unix://{paths.socket}")
    return "\n".join(
        [
            section("supervisord", supervisord),
            section("unix_http_server", {"file": escape(str(paths.socket)), "chmod": "0700"}),
            section("rpcinterface:supervisor", {interface: "supervisor_plugin.rpc:make_supervisor_interface"}),
            section(
                "rpcinterface:fleet", {interface: "supervisor_plugin.rpc:make_fleet_interface", "listener": LISTENER}
            ),
            section("supervisorctl", {"serverurl": url}),
            section("ctlplugin:fleet", {"supervisor.ctl_factory": "supervisor_plugin.ctl:make_fleet_commands"}),
            _listener_section(paths, instance),
            section("include", {"files": "conf.d/*.conf"}),
        ]
    )


def _minfds() -> int:
    # Every fork closes this many descriptors one by one; more than the hard limit keeps supervisord from starting.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 1024 if hard == resource.RLIM_INFINITY else min(1024, hard)


def _listener_section(paths: Paths, instance: str) -> str:
    return section(
        f"eventlistener:{LISTENER}",
        {
            "command": command((paths.python, "-P", "-m", "supervisor_plugin.listener")),
            "events": "PROCESS_STATE,REMOTE_COMMUNICATION,SUPERVISOR_STATE_CHANGE",
            "buffer_size": "10000",
            "priority": "-1",  # first up, last down
            "startsecs": "1",  # with 0 a listener that dies at once is respawned in a tight loop
            "startretries": "1000000",
            "autorestart": "true",
            "stopwaitsecs": "30",
            "stdout_logfile": "NONE",
            "stderr_logfile": _log_file(paths, f"{LISTENER}.err"),
            "stderr_logfile_maxbytes": "5MB",
            "environment": environment(base_environment(paths, instance) | _dsn_environment(paths.dsn_file)),
        },
    )


def base_environment(paths: Paths, instance: str) -> dict[str, str]:
    """Return what the listener, the launcher and the proxy need to find the fleet."""
    return {
        "POSTERN_FLEET": instance,
        "POSTERN_STATE_DIR": str(paths.state),
        "POSTERN_REGISTRY": str(paths.registry),
    }


def _dsn_environment(dsn_file: Path | None) -> dict[str, str]:
    return {"POSTERN_DSN_FILE": str(dsn_file)} if dsn_file else {}


def command(argv: tuple[str, ...]) -> str:
    """Write an argument vector as a command line that supervisord splits into the same vector."""
    return escape(shlex.join(argv))


def program_file(
    name: str, argv: tuple[str, ...], paths: Paths, variables: Mapping[str, str], *, stop_s: float, priority: int
) -> str:
    """Write one program: supervisord spawns, signals and reaps it, and never decides about it."""
    return section(
        f"program:{name}",
        {
            "command": command(argv),
            "priority": str(priority),
            "autostart": "false",
            "autorestart": "false",
            "startsecs": "0",
            "startretries": "0",
            "stopsignal": "TERM",
            "stopwaitsecs": str(math.ceil(stop_s)),
            "stopasgroup": "true",
            "killasgroup": "true",
            "umask": "027",
            "redirect_stderr": "true",
            "stdout_logfile": _log_file(paths, f"{name}.log"),
            "stdout_logfile_maxbytes": "20MB",
            "stdout_logfile_backups": "3",
            "environment": environment({**variables, "POSTERN_SERVER": name}),
        },
    )


def server_file(server: Server, paths: Paths, instance: str) -> str:
    """Write the program of an internal server: the launcher, which becomes the server."""
    if server.name in RESERVED:
        raise ConfigError(f"servers.{server.name}: this name is taken by a program of Postern; choose another")
    argv = (paths.python, "-P", "-m", "supervisor_plugin.launch", server.name)
    variables = base_environment(paths, instance)
    return program_file(server.name, argv, paths, variables, stop_s=server.lifecycle.stop_grace_s, priority=999)


def program_files(fleet: Fleet, paths: Paths, instance: str, proxy: tuple[str, ...] | None) -> dict[str, str]:
    """Write every program by name. `proxy` is the argument vector of the proxy, or None for a fleet without one."""
    programs = {s.name: server_file(s, paths, instance) for s in fleet.enabled_servers() if s.type == "internal"}
    if proxy is not None:
        # Its priority makes supervisord stop it before the servers: calls in flight can still finish.
        stop_s = fleet.proxy.drain_s + 5
        argv = (paths.python, "-P", "-m", "supervisor_plugin.launch", PROXY, "--", *proxy)
        variables = base_environment(paths, instance) | _dsn_environment(paths.proxy_dsn_file)
        programs[PROXY] = program_file(PROXY, argv, paths, variables, stop_s=stop_s, priority=2000)
    return programs


def write_programs(programs: Mapping[str, str], directory: Path) -> None:
    """Make the directory hold exactly these programs, or raise OSError and leave it as it was."""
    hold_exactly(directory, ".conf", programs)


def default_proxy(paths: Paths) -> tuple[str, ...]:
    """Return the argument vector of the proxy's program."""
    return (str(paths.postern), "proxy")


def write_supervisord_config(fleet: Fleet, paths: Paths, proxy: tuple[str, ...] | None = ()) -> Path:
    """Write everything supervisord reads and return its main file. `proxy`: () means ours, None means none."""
    prepare(paths)
    instance = instance_id(paths)
    argv = default_proxy(paths) if proxy == () else proxy
    write_sections(fleet, paths)
    write_programs(program_files(fleet, paths, instance, argv), paths.programs)
    write_private(paths.conf, main_file(paths, instance))
    return paths.conf


def supervisord_argv(paths: Paths) -> tuple[str, ...]:
    """Return the command that runs supervisord in the foreground."""
    return (paths.python, "-P", "-m", "supervisor.supervisord", "-n", "-c", str(paths.conf))


def supervisorctl_argv(paths: Paths, *words: str) -> tuple[str, ...]:
    """Return the command that asks this fleet's supervisord."""
    return (paths.python, "-P", "-m", "supervisor.supervisorctl", "-c", str(paths.conf), *words)
