"""`supervisorctl fleet …`: standard library and supervisor only.

Exit codes: 0 fine, 1 refused or failed, 2 usage, 3 something is not healthy, 4 supervisord cannot be reached.
"""

import importlib
import json
import shlex
import socket
import xmlrpc.client
from collections.abc import Callable
from typing import Any

from supervisor_plugin.tables import render_actions, render_explanation, render_health, render_status
from supervisor_plugin.verdict import is_well

_supervisorctl: Any = importlib.import_module("supervisor.supervisorctl")

USAGE = """\
fleet status [--json] [NAME ...]          what runs, since when, how healthy, and why not
fleet health [--since SPAN] [--json]      checks and downtime, over the last day or SPAN (90m, 12h, 7d)
fleet start | stop | restart NAME ...     through the gate, with health check and drain; `all` for every server
fleet reconcile [--json]                  read the registry again and make what runs what is declared
fleet explain NAME [--json]               why one server is in its state, and what happens next"""

STATUS_S = 5.0
OK, REFUSED, USAGE_ERROR, UNWELL, UNREACHABLE = range(5)


class FleetCommands(_supervisorctl.ControllerPluginBase):
    """The verb `fleet` of supervisorctl."""

    name = "fleet"

    def __init__(self, controller: Any) -> None:
        self.ctl = controller

    def do_fleet(self, arg: str) -> None:
        """Run one command; supervisorctl ends with the exit code that is left here."""
        words = shlex.split(arg) or ["status"]
        verb, rest = words[0], [word for word in words[1:] if word != "--json"]
        command = self._commands().get(verb)
        try:
            code = command(rest, "--json" in words) if command else self._usage()
        except xmlrpc.client.Fault as fault:
            self._print(f"fleet {verb}: {fault.faultString.removeprefix('FAILED: ')}")
            code = REFUSED
        except TimeoutError:
            self._print(
                f"fleet: supervisord does not answer within {STATUS_S:g} s; is it stopped, or the machine too busy?"
            )
            code = UNREACHABLE
        except (OSError, xmlrpc.client.ProtocolError) as error:
            self._print(f"fleet: supervisord cannot be reached: {error}")
            code = UNREACHABLE
        self.ctl.exitstatus = code

    def help_fleet(self) -> None:
        self._print(USAGE)

    def _commands(self) -> dict[str, Callable[[list[str], bool], int]]:
        return {
            "status": self._status,
            "health": self._health,
            "start": lambda names, as_json: self._act("start", names, as_json),
            "stop": lambda names, as_json: self._act("stop", names, as_json),
            "restart": lambda names, as_json: self._act("restart", names, as_json),
            "reconcile": self._reconcile,
            "explain": self._explain,
        }

    def _status(self, names: list[str], as_json: bool) -> int:
        # No `upcheck` first: it faults while supervisord is stopping, which is when one wants to look.
        status = self._read_status()
        known = {server["name"] for server in status["servers"]}
        if not known.issuperset(names):
            unknown = ", ".join(name for name in names if name not in known)
            self._print(f"fleet status: no member is called {unknown}; there are: {', '.join(sorted(known)) or 'none'}")
            return REFUSED
        if names:
            status["servers"] = [server for server in status["servers"] if server["name"] in names]
        self._show(status, render_status, as_json)
        return OK if is_well(status) else UNWELL

    def _health(self, words: list[str], as_json: bool) -> int:
        if words and (words[0] != "--since" or len(words) != 2):
            return self._usage()
        answer = json.loads(self._fleet().health(words[1] if words else ""))
        self._show(answer["data"], render_health, as_json)
        return OK if all(server["can_route"] for server in answer["data"]["servers"]) else UNWELL

    def _act(self, verb: str, names: list[str], as_json: bool) -> int:
        if not names:
            return self._usage()
        answer = json.loads(getattr(self._fleet(), verb)([] if names == ["all"] else names))
        self._show(answer["data"], render_actions, as_json)
        return OK if answer["data"]["ok"] else REFUSED

    def _reconcile(self, words: list[str], as_json: bool) -> int:
        if words:
            return self._usage()
        answer = json.loads(self._fleet().reconcile())
        self._show(answer["data"], render_actions, as_json)
        return OK if answer["data"]["ok"] else REFUSED

    def _explain(self, names: list[str], as_json: bool) -> int:
        if len(names) != 1:
            return self._usage()
        answer = json.loads(self._fleet().explain(names[0]))
        self._show(answer["data"], render_explanation, as_json)
        return OK

    def _show(self, data: dict[str, Any], render: Callable[[dict[str, Any]], str], as_json: bool) -> None:
        self._print(json.dumps(data, indent=2) if as_json else render(data))

    def _usage(self) -> int:
        self._print(USAGE)
        return USAGE_ERROR

    def _print(self, text: str) -> None:
        self.ctl.output(text)

    def _fleet(self) -> Any:
        """Return the namespace `fleet` of a supervisord that answers: what it is asked may take minutes."""
        self._read_status()
        return self.ctl.get_server_proxy("fleet")

    def _read_status(self) -> dict[str, Any]:
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(STATUS_S)
        try:
            status: dict[str, Any] = json.loads(self.ctl.get_server_proxy("fleet").status())
        finally:
            socket.setdefaulttimeout(before)
        return status


def make_fleet_commands(controller: Any, **_settings: str) -> FleetCommands:
    """Make `[ctlplugin:fleet]`."""
    return FleetCommands(controller)
