"""How sessions end: idle, old, revoked, in every replica; and that their servers are told (SPEC S4)."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.sessions.cli import command
from proxy.sessions.store import Sessions
from registry.database.pool import create_pool
from tests.fakes.stateful import Stateful
from tests.fixtures_postgres import Database, execute
from tests.sidecar import wait_for
from tests.streaming import Legacy, Scene, document, external, leave_all


@pytest.fixture(scope="module")
def upstream() -> Iterator[Stateful]:
    with Stateful() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def scene(tmp_path_factory, module_database: Database, upstream: Stateful) -> Iterator[Scene]:
    servers = {
        "one": external(upstream),
        "idle": external(upstream, sessions={"idle_s": 1.5}),
        "short": external(upstream, sessions={"absolute_s": 2.0}),
    }
    scene = Scene(tmp_path_factory.mktemp("ends"), module_database, servers)
    try:
        scene.sidecar.start_proxy()
        yield scene
    finally:
        scene.sidecar.stop()


@pytest.fixture(autouse=True)
def fresh(upstream: Stateful) -> Iterator[None]:
    upstream.release.clear()
    yield
    upstream.release.set()
    leave_all()


def session(database: Database, *arguments: str, role: str = "postern_proxy") -> Result:
    return CliRunner().invoke(command, ["--dsn", database.dsn(role), *arguments], catch_exceptions=False)


def is_unknown(client: Legacy) -> bool:
    answered = client.call("echo")
    if answered.status != 404:
        return False
    assert document(answered)["error"]["data"]["code"] == "session.unknown"
    return True


def status_of(scene: Scene, client: Legacy) -> str:
    return scene.query("select status from mcp_sessions where id = $1", client.session)[0]["status"]


def test_a_session_that_is_used_lives_and_one_that_is_not_ends(scene, upstream) -> None:
    """Activity is written in bundles, often enough for the shortest idle timeout; the server of an idle one is told."""
    used, unused = scene.client("idle"), scene.client("idle")
    upstream_id = scene.query("select upstream_id from mcp_sessions where id = $1", unused.session)[0]["upstream_id"]
    for moment in range(16):
        begun = time.monotonic()
        assert document(used.call("echo", moment=moment))["result"]
        wait_for(lambda begun=begun: time.monotonic() > begun + 0.25, "a moment passes")
    assert is_unknown(unused)
    wait_for(lambda: status_of(scene, unused) == "expired", "the row says so")
    wait_for(lambda: upstream_id not in upstream.sessions, "the server is told")
    assert ("DELETE", upstream_id) in [(method, headers.get("mcp-session-id")) for method, headers, _ in upstream.seen]


def test_an_open_stream_keeps_its_session(scene) -> None:
    client = scene.client("idle")
    stream = client.get()
    assert stream.status == 200
    deadline = time.monotonic() + 4
    wait_for(lambda: time.monotonic() > deadline, "more than the idle timeout passes")
    assert not stream.is_over
    assert document(client.call("echo"))["result"]


def test_an_old_session_ends_however_much_it_is_used_and_its_stream_with_it(scene) -> None:
    client = scene.client("short")
    stream = client.get()
    assert stream.status == 200
    stream.wait_for_end()
    assert scene.late_row(stream)["decision"] == "session.expired"
    assert is_unknown(client)
    wait_for(lambda: status_of(scene, client) == "expired", "the row says so")


def test_revoking_closes_what_is_open_at_once_in_every_replica(scene, upstream, module_database) -> None:
    replica = scene.start_replica()
    client = scene.client("one", sub="bob")
    bystander = scene.client("one", sub="carol")
    streams = [client.get(), client.at(replica).get(), client.call("slow"), client.at(replica).call("slow")]
    spared = bystander.get()
    for stream in (*streams, spared):
        assert stream.status == 200
    revoked = session(module_database, "revoke", "--subject", "bob", "--json")
    assert revoked.exit_code == 0, revoked.output
    assert json.loads(revoked.stdout)["id"] == client.session
    for stream in streams:
        stream.wait_for_end(limit_s=5)
        row = scene.late_row(stream)
        assert (row["status"], row["decision"]) == ("cancelled", "session.revoked")
    assert streams[2].messages[-1]["error"]["code"] == -32001
    assert is_unknown(client)
    assert is_unknown(client.at(replica))
    assert not spared.is_over
    wait_for(lambda: len(upstream.sessions) == 1 or status_of(scene, client) == "revoked", "the server is told")
    scene.sidecar.kill("replica", 15)


def test_a_row_that_is_deleted_by_hand_is_unknown_at_once(scene, module_database) -> None:
    """Who deletes rows in a hurry does not wait until every replica has forgotten them."""
    client, later = scene.client("one", sub="dora"), scene.client("one", sub="later")
    stream = later.get()
    assert client.call("echo").status == 200
    delete = f"delete from mcp_sessions where id = '{client.session}'"
    asyncio.run(execute(module_database.dsn("postern_owner"), delete))
    assert session(module_database, "revoke", "--subject", "later").exit_code == 0
    stream.wait_for_end()  # what was told after the deletion has been heard
    assert is_unknown(client)


def test_sessions_are_listed_and_shown(scene, module_database) -> None:
    client = scene.client("one", sub="dora")
    listed = session(module_database, "list", "--subject", "dora", role="postern_operator")
    found = [json.loads(line) for line in listed.stdout.splitlines()]
    assert [row["id"] for row in found] == [client.session]
    assert (found[0]["server"], found[0]["status"], found[0]["rebuilds"]) == ("one", "open", 0)
    table = session(module_database, "list", "--subject", "dora", "--table").stdout
    assert str(client.session) in table, "whole, in 80 columns: `revoke` and `show` want it so"
    shown = session(module_database, "show", str(client.session), "--table", role="postern_operator")
    assert "dora" in shown.stdout
    assert "2025-11-25" in shown.stdout
    client.delete().wait_for_end()
    assert session(module_database, "list", "--subject", "dora").stdout == ""
    ended = session(module_database, "list", "--subject", "dora", "--all")
    assert json.loads(ended.stdout)["status"] == "closed"


@pytest.mark.parametrize(
    ("arguments", "role", "exit_code"),
    [
        (["show", "never"], "postern_operator", 1),
        (["revoke", "never"], "postern_proxy", 1),
        (["revoke"], "postern_proxy", 2),
        (["revoke", "--all"], "postern_operator", 3),
    ],
)
def test_what_cannot_be_done_is_said_with_its_exit_code(module_database, arguments, role, exit_code) -> None:
    result = session(module_database, *arguments, role=role)
    assert result.exit_code == exit_code
    assert result.stderr.startswith("postern session: ")
    assert "Traceback" not in result.output


def test_reader_that_leaves_is_not_the_databases_fault(scene, module_database) -> None:
    """`postern session list | head -1`, where the list is longer than a pipe takes."""
    scene.client("one", sub="fay")
    dsn = ("--dsn", module_database.dsn("postern_operator"))
    argv = [sys.executable, "-m", "registry.cli", "session", *dsn, "list", "--all", "--json"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_without_a_database_the_command_says_where_it_looked(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "registry.cli", "session", "--state-dir", str(tmp_path), "list"]
    ran = subprocess.run(argv, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"})
    assert ran.returncode == 3
    assert "no database" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.anyio
async def test_rows_of_ended_sessions_are_deleted_after_their_time(database: Database) -> None:
    """A day later nothing is left of them; an open one stays."""
    pool = await create_pool(database.dsn("postern_proxy"))
    try:
        statement = """insert into mcp_sessions (id, server, issuer, subject, client, protocol_version, event_key, idle_s, expires,
                       status, last_activity) values ($1, 's', '', '', '', 'v', decode(repeat('00', 32), 'hex'), 60, now() + '1d', $2,
                       now() - '2 days'::interval)"""
        for name, status in (("open", "open"), ("closed", "closed"), ("revoked", "revoked")):
            await pool.execute(statement, name.ljust(22, "-"), status)
        await Sessions(pool, time.monotonic, time.time).delete_ended(86_400, 100)
        assert [row["status"] for row in await pool.fetch("select status from mcp_sessions")] == ["open"]
    finally:
        await pool.close()
