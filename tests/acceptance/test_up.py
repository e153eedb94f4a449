"""`postern up` as a person meets it: real PostgreSQL, supervisord, proxy and servers; real signals; and nothing left behind."""

import contextlib
import json
import os
import pty
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

from registry.database.embedded import EmbeddedPostgres, default_base
from supervisor_plugin.up.demo import demo_files
from tests.fixtures_postgres import OWNER
from tests.ports import free_port
from tests.sidecar import Answer, http, wait_for
from tests.third_party import install

ROOT = Path(__file__).parents[2]
CLI = (sys.executable, "-m", "registry.cli")
UP_LIMIT_S = 120.0
QUICK = {"health": {"start_budget_s": 10}, "lifecycle": {"stop_grace_s": 30, "drain_s": 1}}


@dataclass
class Place:
    """A directory with a state directory in it, and every `postern up` that was started there."""

    root: Path
    database_url: str | None = None
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.root / ".postern"

    @property
    def output(self) -> Path:
        return self.root / "output"

    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return {**kept, "PYTHONPATH": str(ROOT), **({"DATABASE_URL": self.database_url} if self.database_url else {})}

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start `postern up` here, its output in a file."""
        with self.output.open("wb") as output:
            process = subprocess.Popen(
                [*CLI, "up", *arguments], cwd=self.root, env=self.environment(),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def bring_up(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start it and wait until all is up."""
        process = self.start(*arguments)

        def is_up() -> bool:
            assert process.poll() is None, self.said()
            return "stop everything" in self.said()

        wait_for(is_up, "the fleet is up", UP_LIMIT_S)
        return process

    def run(self, *words: str) -> tuple[int, str]:
        """Run any subcommand to its end; return its exit code and all that it said."""
        done = subprocess.run(
            [*CLI, *words], cwd=self.root, env=self.environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=UP_LIMIT_S, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout.decode()

    def said(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def supervisords(self) -> list[int]:
        return [
            pid for pid, words in running().items() if "supervisor.supervisord" in words and str(self.root) in words
        ]

    def left(self) -> list[str]:
        """Every process that belongs to this place: supervisord, listener, proxy, servers, PostgreSQL."""
        marks = [str(self.root)]
        if self.state.exists():
            marks.append(str(default_base(self.state)))
        if (instance := self.state / "instance").exists():
            marks.append(f"POSTERN_FLEET={instance.read_text().strip()}")
        return [f"{pid} {words}" for pid, words in running().items() if any(mark in words for mark in marks)]

    def clean(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait(timeout=30)
        if self.state.exists():
            for pid in [int(entry.split()[0]) for entry in self.left()]:
                with contextlib.suppress(ProcessLookupError):  # some end with those that were killed before them
                    os.kill(pid, signal.SIGKILL)
            base = default_base(self.state)
            EmbeddedPostgres(base).stop()
            shutil.rmtree(base, ignore_errors=True)
        shutil.rmtree(self.root, ignore_errors=True)


def running() -> dict[int, str]:
    """Every process with its command line and environment, as far as we may see; our own kin is none of it."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if (entry / "stat").read_text(errors="replace").rsplit(")", 1)[1].split()[0] in "ZX":
                continue
            words = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes()
        except OSError:
            continue
        found[int(entry.name)] = words.replace(b"\0", b" ").decode(errors="replace")
    return found


def make_place(database_url: str | None = None) -> Place:
    # pytest's own directories are too deep for a Unix socket's address.
    return Place(Path(tempfile.mkdtemp(prefix="up-")).resolve(), database_url)


def write_fleet(place: Place, **servers: dict[str, Any]) -> Path:
    """Write a registry whose servers need no token: `postern up` is what is tested here."""
    sections = {
        name: {
            "display_name": name.title(), "description": "A server for tests", "port": free_port(),
            "command": [sys.executable, "-m", "tests.fakes.tiny_mcp", "--port", "{port}"], "cwd": str(ROOT),
            "oauth": {"required": False}, "tools": {"echo": {}}, **QUICK, **section,
        }
        for name, section in servers.items()
    }  # fmt: skip
    document = {
        "version": 1,
        "fleet": {"name": "test", "ports": {"first": 1024, "last": 65535}},
        "proxy": {"port": free_port(), "drain_s": 2},
        "servers": sections,
    }
    file = place.root / "postern.yaml"
    file.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return file


def mode(name: str) -> dict[str, Any]:
    return {"command": [sys.executable, "-m", "tests.fakes.tiny_mcp", "--port", "{port}", "--mode", name]}


def pasted(said: str) -> Answer:
    """Send the printed call, as a shell and curl would."""
    command = said[said.index("curl -sS") :].split("\n\n", 1)[0]
    words = shlex.split(command.replace("\\\n", " "))
    headers = dict(words[i + 1].split(": ", 1) for i, word in enumerate(words) if word == "-H")
    return http("POST", words[2], headers, words[words.index("-d") + 1].encode())


def answers(place: Place, server: str = "echo") -> bool:
    """Whether the proxy hands a call through to the server."""
    port = json.loads((place.root / "postern.yaml").read_text())["proxy"]["port"]
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
    message = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "echo", "arguments": {}, "_meta": meta},
    }
    headers = {
        "content-type": "application/json", "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "echo",
    }  # fmt: skip
    return http("POST", f"http://127.0.0.1:{port}/{server}/mcp", headers, json.dumps(message).encode()).status == 200


@pytest.fixture
def place(database) -> Iterator[Place]:
    """A place whose fleet uses the PostgreSQL of the test run, through DATABASE_URL."""
    made = make_place(database.dsn(OWNER))
    try:
        yield made
    finally:
        made.clean()


@pytest.fixture
def bare_place() -> Iterator[Place]:
    """A place without DATABASE_URL: its fleet brings its own PostgreSQL."""
    made = make_place()
    try:
        yield made
    finally:
        made.clean()


@pytest.fixture(scope="module")
def demo() -> Iterator[Place]:
    """The demo, up; its file as a person would have changed it: other ports."""
    made = make_place()
    try:
        made.state.mkdir(mode=0o700)
        (made.state / "servers").symlink_to(ROOT / ".postern" / "servers")
        for name in ("time", "excel", *(("git",) if shutil.which("git") else ())):
            install(name)
        text = (demo_files() / "postern.yaml").read_text(encoding="utf-8")
        text = re.sub(r"port: \d+", lambda _: f"port: {free_port()}", text)
        text = text.replace("  name: demo\n", "  name: demo\n  ports: { first: 1024, last: 65535 }\n")
        if not shutil.which("git"):
            text = text.replace("enabled: true # needs the git", "enabled: false # needs the git")
        (made.state / "postern.yaml").write_text(text, encoding="utf-8")
        made.bring_up("--demo")
        yield made
    finally:
        made.clean()


def test_printed_call_answers_with_the_time_and_has_its_row(demo: Place) -> None:
    """What a newcomer pastes first."""
    answer = pasted(demo.said())
    assert answer.status == 200, answer.body
    assert "Europe/Berlin" in answer.json()["result"]["content"][0]["text"]
    code, said = demo.run("audit", "--state-dir", str(demo.state), "query", "--limit", "1", "--json")
    assert code == 0, said
    row = json.loads(said.splitlines()[0])
    assert (row["server"], row["tool"], row["status"]) == ("time", "get_current_time", "success")
    assert (row["subject"], row["scopes_required"]) == ("demo", ["time:read"])


@pytest.mark.anyio
@pytest.mark.parametrize("mode_", ["legacy", "2026-07-28"])
async def test_printed_client_configuration_opens_every_server(demo: Place, mode_: str) -> None:
    """Each unmodified server, by its own token, on both protocol eras."""
    said = demo.said()
    document = json.loads(said[said.index('{\n  "mcpServers"') : said.index("\n}\n") + 2])
    listed: dict[str, set[str]] = {}
    for name, entry in document["mcpServers"].items():
        client = httpx2.AsyncClient(headers=entry["headers"], trust_env=False, timeout=30)
        transport = streamable_http_client(entry["url"], http_client=client)
        async with client, Client(transport, mode=mode_) as session:
            listed[name] = {tool.name for tool in (await session.list_tools()).tools}
    assert listed["time"] == {"get_current_time", "convert_time"}
    assert "create_workbook" in listed["excel"]
    assert ("git" in listed) == (shutil.which("git") is not None)
    assert "git_reset" not in listed.get("git", set())  # not declared, so it does not exist


def test_second_up_is_refused_while_one_runs(demo: Place) -> None:
    """It says who holds the fleet, and disturbs nothing."""
    code, said = demo.run("up", "--demo")
    assert code == 3
    assert f"pid {demo.processes[0].pid}" in said
    assert pasted(demo.said()).status == 200


def test_ctrl_c_stops_everything_and_the_next_up_finds_its_rows(bare_place: Place) -> None:
    """With the embedded PostgreSQL: exit 0, no process left, nothing forgotten."""
    write_fleet(bare_place, echo={})
    process = bare_place.bring_up()
    assert answers(bare_place)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0, bare_place.said()
    assert bare_place.left() == []
    bare_place.bring_up()
    code, said = bare_place.run("audit", "query", "--server", "echo", "--json")
    assert code == 0, said
    assert [json.loads(line)["tool"] for line in said.splitlines() if line.startswith("{")] == ["echo"]


def test_key_press_in_a_terminal_stops_everything(place: Place) -> None:
    """Ctrl-C reaches the whole foreground group; supervisord is told once, by us."""
    write_fleet(place, echo={})
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(place.root)
        os.execvpe(CLI[0], [*CLI, "up"], {**place.environment(), "TERM": "xterm"})
    said, pressed, deadline = b"", False, time.monotonic() + UP_LIMIT_S
    try:
        while time.monotonic() < deadline:
            try:
                chunk = os.read(terminal, 65536)
            except OSError:
                break
            said += chunk
            if b"stop everything" in said and not pressed:
                pressed = True
                os.write(terminal, b"\x03")
    finally:
        _, status = os.waitpid(pid, 0)
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0, said.decode(errors="replace")
    assert "✓".encode() in said
    assert place.left() == []


def test_killed_supervisord_ends_up_with_nothing_left_and_the_next_one_is_healthy(place: Place) -> None:
    """SIGKILL cannot be handled; what it leaves is."""
    write_fleet(place, echo={}, two={})
    process = place.bring_up()
    (supervisord,) = place.supervisords()
    os.kill(supervisord, signal.SIGKILL)
    assert process.wait(timeout=60) == 3
    assert "supervisord was killed by SIGKILL" in place.said()
    assert place.left() == []
    place.bring_up()
    assert answers(place)


def test_killed_up_is_followed_by_one_healthy_fleet(place: Place) -> None:
    """Started again at once, while the old fleet is still on its way out."""
    write_fleet(place, echo={})
    process = place.bring_up()
    process.kill()
    process.wait(timeout=30)
    place.bring_up()
    assert answers(place)
    assert len(place.supervisords()) == 1


def test_both_killed_at_once_are_followed_by_one_healthy_fleet(place: Place) -> None:
    """Nobody was left to clean up; a server that ignores SIGTERM is still there."""
    write_fleet(place, echo=mode("no-term"))
    process = place.bring_up()
    for pid in [int(entry.split()[0]) for entry in place.left() if "supervisor_plugin.listener" in entry]:
        os.kill(pid, signal.SIGKILL)
    os.kill(place.supervisords()[0], signal.SIGKILL)
    process.kill()
    process.wait(timeout=30)
    assert [entry for entry in place.left() if "tiny_mcp" in entry] != []
    place.bring_up()
    assert answers(place)
    assert len([entry for entry in place.left() if "tests.fakes.tiny_mcp" in entry.split("POSTERN")[0]]) == 1


def test_second_ctrl_c_does_not_wait_for_a_server_that_ignores_the_first(place: Place) -> None:
    """The declared grace is thirty seconds; the person's patience is shorter."""
    write_fleet(place, echo=mode("no-term"))
    process = place.bring_up()
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    wait_for(lambda: "once more to kill it" in place.said(), "the first one is answered")
    while process.poll() is None and time.monotonic() - began < 25:
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    assert process.wait(timeout=1) == 0, place.said()
    assert place.left() == []


def test_embedded_database_that_ends_is_started_again(bare_place: Place) -> None:
    """Calls are refused meanwhile, and pass afterwards."""
    write_fleet(bare_place, echo={})
    bare_place.bring_up()
    pid = EmbeddedPostgres(default_base(bare_place.state)).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: "starting it again" in bare_place.said(), "its end is noticed")
    wait_for(lambda: answers(bare_place), "calls pass again", 30)


def test_taken_ports_are_named_with_their_holder_and_line(place: Place) -> None:
    """Before anything is started."""
    file = write_fleet(place, echo={})
    port = json.loads(file.read_text())["proxy"]["port"]
    with socket.create_server(("127.0.0.1", port)):
        code, said = place.run("up")
    assert code == 3
    assert f"port {port} is taken by pid {os.getpid()}" in said
    assert re.search(r"proxy\.port at postern\.yaml:\d+:\d+", said)
    assert place.left() == []


def test_registry_with_findings_starts_nothing(bare_place: Place) -> None:
    """File, line and hint; exit 1; not even PostgreSQL was started."""
    write_fleet(bare_place, echo={"port": "eighty"}, two={"description": ""})
    code, said = bare_place.run("up")
    assert code == 1
    assert re.search(r"postern\.yaml:\d+:\d+: SCHEMA-TYPE servers\.echo\.port", said)
    assert "DESCRIPTION-EMPTY" in said
    assert not (default_base(bare_place.state) / "data").exists()
    assert bare_place.left() == []


def test_server_that_does_not_come_up_is_named_and_everything_is_stopped(place: Place) -> None:
    """All or nothing: the healthy one is stopped as well."""
    write_fleet(place, echo={}, broken={"command": [sys.executable, "-c", "raise SystemExit('no licence found')"]})
    code, said = place.run("up")
    assert code == 3
    assert "broken did not come up" in said
    assert "no licence found" in said
    assert place.left() == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://u:s3cret@127.0.0.1:1/x", "cannot be reached"),
        ("mysql://u:s3cret@h/x", "must begin with postgresql://"),
    ],
)
def test_wrong_database_address_says_what_to_do_and_shows_no_password(bare_place: Place, url: str, words: str) -> None:
    """And it names the variable."""
    write_fleet(bare_place, echo={})
    bare_place.database_url = url
    code, said = bare_place.run("up")
    assert code == 3
    assert words in said
    assert "DATABASE_URL" in said
    assert "s3cret" not in said
    assert bare_place.left() == []


def test_missing_registry_is_a_usage_error(place: Place) -> None:
    """With the two ways out."""
    code, said = place.run("up")
    assert code == 2
    assert "-f FILE" in said
    assert "--demo" in said


def test_detached_fleet_outlives_the_command_and_is_taken_down(place: Place) -> None:
    """The greeting says how; a second time there is nothing to take down."""
    write_fleet(place, echo={})
    code, said = place.run("up", "--detach")
    assert code == 0, said
    assert "postern down" in said
    assert answers(place)
    assert place.run("down")[0] == 0
    assert place.left() == []
    assert "nothing is up" in place.run("down")[1]


def test_two_detaching_commands_at_once_make_one_fleet_and_one_refusal(place: Place) -> None:
    """Each says for itself what came of it."""
    write_fleet(place, echo={})
    first = place.start("--detach")
    wait_for((place.state / "detach.lock").exists, "the first one has begun")
    code, said = place.run("up", "--detach")
    assert first.wait(timeout=UP_LIMIT_S) == 0, place.said()
    assert code == 3, said
    assert "bringing this fleet up" in said or "is up already" in said
    assert "postern down" in place.said()
    assert len(place.supervisords()) == 1


def test_down_ends_what_a_killed_up_has_left(place: Place) -> None:
    """It promises to wait until nothing is left; the fleet of a killed `postern up` takes its time."""
    write_fleet(place, echo=mode("no-term") | {"lifecycle": {"stop_grace_s": 3, "drain_s": 1}})
    process = place.bring_up()
    process.kill()
    process.wait(timeout=30)
    code, said = place.run("down")
    assert code == 0, said
    assert "left from an earlier run: supervisord" in said
    assert place.left() == []
    assert "nothing is up" in place.run("down")[1]


def test_commands_in_a_copy_of_the_directory_leave_the_fleet_alone(place: Place) -> None:
    """Somebody makes a second environment out of the first: its processes are not the copy's leftovers."""
    write_fleet(place, echo={})
    place.bring_up()
    before = place.left()
    copy = make_place()
    try:
        shutil.copytree(place.state, copy.state, ignore=shutil.ignore_patterns("*.sock"))
        code, said = copy.run("down")
        assert (code, "nothing is up" in said) == (0, True), said
        shutil.copy(place.root / "postern.yaml", copy.root)
        code, said = copy.run("up")
        assert (code, "is taken by" in said) == (3, True), said
        assert place.left() == before
        assert answers(place)
    finally:
        copy.clean()


def test_detached_fleet_that_does_not_come_up_says_why(place: Place) -> None:
    """All that was said is there, and nothing is left."""
    write_fleet(place, broken={"command": [sys.executable, "-c", "raise SystemExit('no licence found')"]})
    code, said = place.run("up", "--detach")
    assert code == 3
    assert "no licence found" in said
    assert place.left() == []


def test_interrupt_while_starting_leaves_nothing(bare_place: Place) -> None:
    """Not up yet, so the exit code is that of an interruption."""
    write_fleet(bare_place, echo=mode("mute"))
    process = bare_place.start()
    wait_for(lambda: "✓ PostgreSQL" in bare_place.said(), "PostgreSQL is up", UP_LIMIT_S)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130, bare_place.said()
    assert bare_place.left() == []


def test_detached_fleet_takes_the_exit_code_and_the_database_of_the_command_line(bare_place: Place) -> None:
    """What a script branches on, and where it has its rows written."""
    write_fleet(bare_place, echo={"port": "eighty"})
    assert bare_place.run("up", "--detach")[0] == 1
    write_fleet(bare_place, echo={})
    code, said = bare_place.run("up", "--detach", "--database-url", "postgresql://u:s3cret@127.0.0.1:1/x")
    assert code == 3, said
    assert "127.0.0.1:1/x: it cannot be reached" in said
    assert "s3cret" not in said


def test_signal_to_the_command_that_detaches_ends_what_it_started(place: Place) -> None:
    """A script's `timeout` leaves no fleet that nobody waits for."""
    write_fleet(place, echo=mode("mute"))
    process = place.start("--detach")
    wait_for(lambda: "✓ PostgreSQL" in place.said(), "PostgreSQL is there", UP_LIMIT_S)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 130, place.said()
    assert place.left() == []


def test_state_directory_that_cannot_be_one_is_named_with_the_way_out(place: Place) -> None:
    """Not with a traceback, nor with the exit code of findings in the registry."""
    write_fleet(place, echo={})
    place.state.write_text("a file is in the way")
    for words in (["up"], ["up", "--detach"]):
        code, said = place.run(*words)
        assert code == 3, said
        assert f"{place.state}: File exists" in said
        assert "--state-dir chooses another" in said
        assert "Traceback" not in said
