"""`postern audit prune` as a DBA meets it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from proxy.audit.cli import command
from proxy.audit.keys import KEYS, signer_in
from proxy.audit.record import Intent
from tests.fixtures_postgres import Database, run_apart
from tests.integration.audit_trail import AGO, PARTITIONS, execute, write
from tests.unit.audit.samples import call, request


def run(database: Database, *args: str, role: str = "postern_auditor", code: int = 0) -> Result:
    result = CliRunner().invoke(command, ["--dsn", database.dsn(role), *args])
    assert result.exit_code == code, result.output
    return result


def rows(database: Database) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(database, "query").stdout.splitlines()]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory as the proxy leaves it, with its signing key."""
    (tmp_path / KEYS).mkdir()
    signer_in(tmp_path / KEYS)
    return tmp_path


def test_prune_drops_whole_partitions_and_the_rest_verifies(database: Database, state: Path) -> None:
    months_ago = datetime.now(UTC) - timedelta(days=100)
    run_apart(execute(database, PARTITIONS))
    intent, row = call(started=months_ago)
    run_apart(write(database, intent, row, *call(), *call(started=months_ago), *call()))
    owner = ("--state-dir", str(state), "prune", "--keep", "40d")
    dry = run(database, *owner, "--dry-run", role="postern_owner").output
    assert "would drop" in dry
    assert len(rows(database)) == 4
    file = state / "checkpoints"
    assert "dropped" in run(database, *owner, "--checkpoint-file", str(file), role="postern_owner").output
    assert len(rows(database)) == 2
    report = json.loads(run(database, "--state-dir", str(state), "verify", "--checkpoints", str(file), "--json").stdout)
    assert (report["findings"], report["entries"], report["unchecked_signatures"]) == ([], 4, 0)
    run(database, "gaps")
    run_apart(execute(database, "delete from audit_entries where seq = 3"))
    assert "entries 3 to 3 are not there" in run(database, "gaps", code=1).output, "behind what was pruned"
    assert "entry 3 is missing" in run(database, "verify", code=1).output


def test_prune_keeps_what_is_still_open(database: Database, state: Path) -> None:
    months_ago = datetime.now(UTC) - timedelta(days=100)
    run_apart(execute(database, PARTITIONS))
    run_apart(write(database, Intent(request(started=months_ago))))
    args = ("--state-dir", str(state), "prune", "--keep", "40d")
    assert "1 intents have no row yet" in run(database, *args, role="postern_owner", code=1).output


def test_only_the_owner_prunes(database: Database, state: Path) -> None:
    run_apart(execute(database, PARTITIONS))
    args = ("--state-dir", str(state), "prune", "--keep", "40d")
    for role in ("postern_proxy", "postern_auditor"):
        assert "only the owner" in run(database, *args, role=role, code=3).output


def test_prune_keeps_at_least_a_day(database: Database) -> None:
    assert "at least a day" in run(database, "prune", "--keep", "2h", code=2).output


def test_prune_without_a_key_says_so(database: Database, tmp_path: Path) -> None:
    assert "signing key" in run(database, "--state-dir", str(tmp_path), "prune", "--keep", "40d", code=3).output


@pytest.mark.parametrize("style", ["SQL, DMY", "German"])
def test_prune_reads_bounds_in_any_date_style(database: Database, state: Path, style: str) -> None:
    run_apart(execute(database, PARTITIONS, f"alter database {database.name} set datestyle = '{style}'"))
    args = ("--state-dir", str(state), "prune", "--keep", "40d", "--dry-run")
    assert f"would drop {AGO:%Y-%m}-01 to " in run(database, *args, role="postern_owner").output


def test_nothing_is_dropped_where_the_statement_would_not_reach_the_file(database: Database, state: Path) -> None:
    run_apart(execute(database, PARTITIONS))
    prune = ("--state-dir", str(state), "prune", "--keep", "40d")
    before = run(database, *prune, "--dry-run", role="postern_owner").output
    told = run(database, *prune, "--checkpoint-file", str(state / "no" / "such"), role="postern_owner", code=3).output
    assert "nothing was dropped" in told
    assert run(database, *prune, "--dry-run", role="postern_owner").output == before


def test_old_entries_without_a_period_are_told_and_can_be_given_one(database: Database, state: Path) -> None:
    """A proxy whose clock began with the epoch."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    run_apart(write(database, *call(started=epoch), *call()))
    prune = ("--state-dir", str(state), "prune", "--keep", "40d")
    assert "kept 2 entries in the default" in run(database, *prune, role="postern_owner", code=1).output
    page = (Path(__file__).parents[2] / "docs" / "audit.md").read_text()
    statements = page.split("begin;\n", 1)[1].split("commit;", 1)[0]
    run_apart(execute(database, statements, statements.replace("audit_log", "audit_intents")))
    assert "dropped 1970-01-01 to 1970-02-01, 1 rows" in run(database, *prune, role="postern_owner").output
    assert len(rows(database)) == 1
    assert "everything fits" in run(database, "--state-dir", str(state), "verify").output
