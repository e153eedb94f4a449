"""Ports that are taken: which, by whom, and where to choose another."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from registry.loader import load
from supervisor_plugin.up.errors import PortsTakenError
from supervisor_plugin.up.vacancy import check_ports, wanted_ports
from tests.ports import free_port

FLEET = """\
version: 1
fleet: {{ ports: {{ first: 1024, last: 65535 }} }}
proxy:
  port: {proxy}
servers:
  notes:
    display_name: Notes
    description: Notes
    port: {server}
    command: [sh]
    oauth: {{ required: false }}
  away:
    display_name: Away
    description: Elsewhere
    type: external
    endpoint: https://example.com/mcp
"""


def loaded(tmp_path: Path, proxy: int, server: int):
    file = tmp_path / "postern.yaml"
    file.write_text(FLEET.format(proxy=proxy, server=server), encoding="utf-8")
    found = load(file)
    assert found.fleet is not None
    return found.fleet, found.layout


def test_free_ports_are_fine(tmp_path: Path) -> None:
    """An external server needs none."""
    fleet, layout = loaded(tmp_path, free_port(), free_port())
    check_ports(fleet, layout)
    assert [pointer for pointer, _ in wanted_ports(fleet)] == [("proxy", "port"), ("servers", "notes", "port")]


def test_every_taken_port_is_named_with_holder_and_line(tmp_path: Path) -> None:
    """One message for all of them."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        fleet, layout = loaded(tmp_path, one.getsockname()[1], two.getsockname()[1])
        with pytest.raises(PortsTakenError) as raised:
            check_ports(fleet, layout)
        text = str(raised.value)
        assert f"port {one.getsockname()[1]} is taken by pid {os.getpid()}" in text
        assert f"kill {os.getpid()}" in text
        assert "proxy.port at" in text
        assert "postern.yaml:4:9" in text
        assert "servers.notes.port at" in text
        assert "postern.yaml:9:11" in text


def test_port_of_another_fleet_is_freed_by_ending_that_fleet(tmp_path: Path) -> None:
    """Its supervisord would start again what was killed: two demos on one machine meet this first."""
    listen = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
    mark = {"POSTERN_FLEET": "other", "POSTERN_STATE_DIR": "/srv/other/.postern"}
    argv = [sys.executable, "-c", listen]
    with subprocess.Popen(argv, env=mark, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        fleet, layout = loaded(tmp_path, int(other.stdout.readline()), free_port())
        with pytest.raises(PortsTakenError, match=r"\(`postern down --state-dir /srv/other/.postern`; kill \d+ if"):
            check_ports(fleet, layout)
        other.communicate("\n")
