"""`postern audit …` as an auditor, an operator and a pipe meet it."""

import asyncio
import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pyarrow import parquet

from proxy.audit.cli import command
from proxy.audit.record import Intent, Row, Scopes, Status, Subject
from proxy.audit.render import plain
from proxy.audit.writer import AuditWriter
from registry.database.pool import connection
from tests.fixtures_postgres import Database, PrivatePostgres, run_apart
from tests.unit.audit.samples import call, outcome, refusal, request

HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)


async def write(database: Database | PrivatePostgres, *records: Intent | Row) -> None:
    writer = await AuditWriter.open(database.dsn("postern_proxy"), instance="cli-test")
    for record in records:
        await (writer.write_intent(record) if isinstance(record, Intent) else writer.write_row(record))
    await writer.aclose()


@pytest.fixture(scope="module")
def told(module_database: Database) -> Database:
    """A log with one of each."""
    denied = Row(
        request("tasks", tool="wipe", subject=Subject("bearer", "https://issuer.example/", "mallory"), scopes=Scopes(("tasks:admin",), ("tasks:read",), ())),
        outcome(Status.DENIED, decision="authz.scope", reason="tasks:admin is needed", http_status=403, upstream_us=None, output=None),
    )  # fmt: skip
    failed = Row(request("notes", tool="slow"), outcome(Status.TIMEOUT, decision="upstream.timeout", http_status=504))
    old = Row(request("notes", tool="old", started=HOUR_AGO), outcome(completed=HOUR_AGO))
    run_apart(write(module_database, *call("notes"), denied, failed, old, refusal("no token")))
    return module_database


def run(database: Database, *args: str, role: str = "postern_auditor", code: int = 0) -> Result:
    result = CliRunner().invoke(command, ["--dsn", database.dsn(role), *args])
    assert result.exit_code == code, result.output
    return result


def rows(database: Database, *args: str, role: str = "postern_auditor") -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(database, *args, role=role).stdout.splitlines()]


def test_query_in_a_pipe_is_json_lines_newest_first(told: Database) -> None:
    found = rows(told, "query")
    assert len(found) == 5
    started = [row["started_at"] for row in found]
    assert started == sorted(started, reverse=True)
    assert found[-1]["tool"] == "old"
    assert found[0]["started_at"].endswith("Z")


FILTERS: list[tuple[list[str], list[str]]] = [
    (["--server", "tasks"], ["wipe"]),
    (["--tool", "slow"], ["slow"]),
    (["--principal", "mallory"], ["wipe"]),
    (["--status", "timeout"], ["slow"]),
    (["--status", "timeout", "--status", "denied", "--tool", "wipe"], ["wipe"]),
    (["--decision", "authz"], ["wipe"]),
    (["--decision", "authz.scope"], ["wipe"]),
    (["--scope", "tasks:admin"], ["wipe"]),
    (["--until", "30m"], ["old"]),
    (["--since", "30m", "--tool", "echo", "--status", "success"], ["echo"]),
    (["--agent", "nobody"], []),
    (["--server", "no such"], []),
]


@pytest.mark.parametrize(("args", "tools"), FILTERS, ids=[" ".join(args) for args, _ in FILTERS])
def test_filters(told: Database, args: list[str], tools: list[str]) -> None:
    assert [row["tool"] for row in rows(told, "query", *args)] == tools


def test_pages_go_on_behind_a_cursor(told: Database) -> None:
    everything = rows(told, "query", "--oldest-first")
    for place in range(5):
        cursor = f"{everything[place]['started_at']},{everything[place]['execution_id']}"
        assert rows(told, "query", "--oldest-first", "--after", cursor) == everything[place + 1 :]
    assert rows(told, "query", "--oldest-first", "-n", "2") == everything[:2]


def test_a_bad_cursor_is_a_usage_error(told: Database) -> None:
    assert "--after" in run(told, "query", "--after", "yesterday", code=2).output
    assert "expected 15m" in run(told, "query", "--since", "soon", code=2).output


@pytest.mark.parametrize("width", ["80", "200"])
def test_a_table_shows_who_and_by_which_scope(told: Database, width: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", width)
    table = run(told, "query", "--table", "--tool", "echo", "--status", "success").stdout
    for word in ("echo", "success", "alice /", "assistant", "notes:write", "2.0 ms"):
        assert word in table


def test_show_prints_one_request_in_full(told: Database) -> None:
    (echo,) = rows(told, "query", "--tool", "echo", "--status", "success")
    assert rows(told, "show", echo["execution_id"]) == [echo]
    text = run(told, "show", "--table", echo["execution_id"]).stdout
    assert '"text": "hello"' in text
    assert "intent" in text


def test_show_of_an_unknown_id_is_a_finding(told: Database) -> None:
    assert "no request" in run(told, "show", "0192f0c8-0000-7000-8000-000000000000", code=1).output


def test_an_operator_sees_metadata_only(told: Database) -> None:
    found = rows(told, "query", role="postern_operator")
    assert len(found) == 5
    secret = {"input", "output", "input_sha256", "output_sha256", "hooks", "error", "reason", "row_hash"}
    assert not secret & set(found[0])
    shown = rows(told, "show", found[0]["execution_id"], role="postern_operator")
    assert not secret & set(shown[0])


def test_stats_count_by_server(told: Database) -> None:
    found = {row["name"]: row for row in rows(told, "stats")}
    assert (found["notes"]["requests"], found["notes"]["failed"], found["tasks"]["denied"]) == (4, 1, 1)
    assert "OWN P50" in run(told, "stats", "--table", "--by", "tool").stdout


def test_export_jsonl_and_csv(told: Database, tmp_path: Path) -> None:
    run(told, "export", "-o", str(tmp_path / "log.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == rows(told, "query", "--oldest-first")
    run(told, "export", "-o", str(tmp_path / "log.csv"), "--server", "tasks")
    (row,) = csv.DictReader(io.StringIO((tmp_path / "log.csv").read_text()))
    assert (row["tool"], json.loads(row["scopes_required"])) == ("wipe", ["tasks:admin"])


def test_export_to_parquet_keeps_types_and_values(told: Database, tmp_path: Path) -> None:
    file = tmp_path / "log.parquet"
    run(told, "export", "-o", str(file))
    table = parquet.read_table(file)
    expected = rows(told, "query", "--oldest-first")
    found = table.to_pylist()
    assert len(found) == len(expected) == 5
    for row, line in zip(found, expected, strict=True):
        assert {name: plain(value) for name, value in row.items()} == line
    kinds = {name: str(table.schema.field(name).type) for name in ("started_at", "scopes_held", "row_hash", "repeats")}
    assert kinds == {
        "started_at": "timestamp[us, tz=UTC]",
        "scopes_held": "list<element: string>",
        "row_hash": "binary",
        "repeats": "int64",
    }


@pytest.mark.parametrize("name", ["log.parquet", "log.csv", "log.jsonl"])
def test_an_export_of_nothing_is_a_file_that_can_be_read(told: Database, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    run(told, "export", "-o", str(file), "--server", "no such")
    if name.endswith("parquet"):
        assert (parquet.read_table(file).num_rows, parquet.read_schema(file).names[0]) == (0, "format")
    else:
        assert len(file.read_text().splitlines()) == int(name.endswith("csv"))


def test_an_export_that_fails_leaves_the_file_that_was_there(
    told: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here: because the extra is not installed."""
    file = tmp_path / "log.parquet"
    file.write_text("last month")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "postern[parquet]" in run(told, "export", "-o", str(file), code=3).output
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("log.parquet", "last month")]


def test_an_export_keeps_a_link_and_who_may_read_the_file(told: Database, tmp_path: Path) -> None:
    file, link = tmp_path / "log.csv", tmp_path / "latest.csv"
    file.touch(mode=0o600)
    link.symlink_to(file)
    run(told, "export", "-o", str(link))
    assert (link.is_symlink(), file.stat().st_mode & 0o777) == (True, 0o600)
    assert len(list(csv.DictReader(io.StringIO(file.read_text())))) == 5


def test_an_export_into_a_pipe_is_read_from_it(told: Database, tmp_path: Path) -> None:
    pipe = tmp_path / "log.jsonl"
    os.mkfifo(pipe)
    with subprocess.Popen(["/bin/cat", str(pipe)], stdout=subprocess.PIPE, text=True) as reader:
        run(told, "export", "-o", str(pipe))
        assert pipe.is_fifo()
        assert len(reader.communicate(timeout=30)[0].splitlines()) == 5


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "\n=1", "\uff1d1"])
def test_a_spreadsheet_formula_is_defused(database: Database, tmp_path: Path, text: str) -> None:
    run_apart(write(database, Row(request(tool=text), outcome())))
    run(database, "export", "-o", str(tmp_path / "log.csv"))
    (row,) = csv.DictReader(io.StringIO((tmp_path / "log.csv").read_text()))
    assert row["tool"] == f"'{text}"


def test_hostile_text_reaches_no_terminal(database: Database) -> None:
    run_apart(write(database, Row(request(tool="\x1b[2J\u202e[red]x"), outcome())))
    for args in (("query", "--table"), ("tail", "--table")):
        text = run(database, *args).stdout
        assert "\x1b[2J" not in text
        assert "\u202e" not in text
    assert "\\x1b[2J\\u202e[red]x" in run(database, "tail", "--table").stdout


def test_no_database_says_where_it_looked(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["--state-dir", str(tmp_path), "query"], env={"DATABASE_URL": None})
    assert result.exit_code == 3
    assert "no database" in result.output
    (tmp_path / "dsn-auditor").write_text("postgresql://postern:hunter2@127.0.0.1:1/postern\n")
    result = CliRunner().invoke(command, ["--state-dir", str(tmp_path), "query"], env={"DATABASE_URL": None})
    assert result.exit_code == 3
    assert "hunter2" not in result.output
    assert "Traceback" not in result.output


def test_a_database_without_tables_says_what_to_do(empty_database: Database) -> None:
    assert "postern migrate" in run(empty_database, "query", code=3).output


def test_verify_and_gaps_say_that_all_is_well(told: Database) -> None:
    assert "everything fits" in run(told, "verify").stdout
    assert json.loads(run(told, "verify", "--json").stdout)["findings"] == []
    run(told, "gaps")


def test_verify_names_the_first_bad_entry_and_exits_1(database: Database) -> None:
    run_apart(write(database, *call(), *call()))
    run_apart(execute(database, "update audit_log set subject = 'mallory' where seq = 2"))
    assert "first bad entry: altered: writer" in run(database, "verify", code=1).stdout


def test_gaps_tell_open_intents_and_missing_rows(database: Database) -> None:
    old = Intent(request(started=HOUR_AGO))
    run_apart(write(database, old, *call(), *call()))
    told = run(database, "gaps").output
    assert str(old.request.execution_id) in told
    run_apart(execute(database, "delete from audit_log where seq = 3"))
    assert "entries 3 to 3 are not there" in run(database, "gaps", code=1).output


def test_gaps_hold_counters_against_rows(database: Database) -> None:
    async def miscount() -> None:
        writer = await AuditWriter.open(database.dsn("postern_proxy"), instance="miscount")
        await writer.write_row(refusal())
        writer.counters.answered += 2
        await writer.aclose()

    run_apart(miscount())
    assert "2 answers left, 1 rows were written" in run(database, "gaps", code=1).output


@pytest.fixture
def followed(database: Database) -> Iterator[tuple[Database, Any]]:
    args = [sys.executable, "-m", "registry.cli", "audit", "tail", "-f", "--interval", "0.05", "-n", "0"]
    env = {"DATABASE_URL": database.dsn("postern_operator")}
    with subprocess.Popen(args, stdout=subprocess.PIPE, text=True, env=env) as process:
        yield database, process
        process.terminate()


def test_tail_follows_every_row_of_many_writers(followed: tuple[Database, Any]) -> None:
    """Writers start, overtake each other and end while the tail looks."""
    database, process = followed
    expected: set[str] = set()

    async def one_writer(count: int) -> None:
        writer = await AuditWriter.open(database.dsn("postern_proxy"), instance="many")
        for _ in range(count):
            row = refusal()
            await writer.write_row(row)
            expected.add(str(row.request.execution_id))
        await writer.aclose()

    async def many() -> None:
        await asyncio.gather(*(one_writer(count) for count in (1, 40, 3, 80, 1, 25)))

    lines: list[str] = []
    run_apart(warm_up(database, process, lines))
    run_apart(many())
    while len(lines) < len(expected):
        lines.append(json.loads(process.stdout.readline())["execution_id"])
    assert set(lines) == expected
    assert len(lines) == len(set(lines))


def test_tail_goes_on_after_a_restart_of_the_database(private_postgres: PrivatePostgres) -> None:
    args = [sys.executable, "-m", "registry.cli", "audit", "tail", "-f", "--interval", "0.05", "-n", "0"]
    env = {"DATABASE_URL": private_postgres.dsn("postern_auditor")}
    with subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env) as process:
        run_apart(warm_up(private_postgres, process, []))
        private_postgres.restart()
        row = refusal()
        run_apart(write(private_postgres, row))
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["execution_id"] == str(row.request.execution_id)
        process.terminate()


async def warm_up(database: Database | PrivatePostgres, process: Any, lines: list[str]) -> None:
    """Write until the tail has said something: it runs."""
    writer = await AuditWriter.open(database.dsn("postern_proxy"), instance="warm")
    loop = asyncio.get_running_loop()
    first = loop.run_in_executor(None, process.stdout.readline)
    written = 0
    while not first.done():
        await writer.write_row(refusal())
        written += 1
        await asyncio.sleep(0.05)
    await writer.write_row(last := refusal())
    while json.loads(await loop.run_in_executor(None, process.stdout.readline))["execution_id"] != str(
        last.request.execution_id
    ):
        pass
    await writer.aclose()
    lines.clear()


async def execute(database: Database, statement: str) -> None:
    async with connection(database.dsn()) as owner:
        await owner.execute(statement)
