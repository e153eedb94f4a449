"""What becomes of `postern audit` when its output cannot be written: the reader has left, the disk is full."""

import os
import subprocess
import sys
from pathlib import Path

from tests.fixtures_postgres import Database, run_apart
from tests.integration.audit_trail import execute, write
from tests.unit.audit.samples import call


def test_a_reader_that_leaves_does_not_turn_findings_into_success(database: Database) -> None:
    run_apart(write(database, *call(), *call()))
    run_apart(execute(database, "update audit_log set subject = 'mallory'"))
    for name in ("verify", "gaps"):
        reading, writing = os.pipe()
        os.close(reading)
        env = {"DATABASE_URL": database.dsn("postern_auditor")}
        args = [sys.executable, "-m", "registry.cli", "audit", name]
        ended = subprocess.run(args, stdout=writing, stderr=subprocess.PIPE, text=True, env=env, check=False)
        os.close(writing)
        assert (ended.returncode, ended.stderr) == (1, "")
        run_apart(execute(database, "delete from audit_log where seq = 2"))


def test_a_full_disk_behind_the_output_is_no_failure_of_the_database(database: Database) -> None:
    args = [sys.executable, "-m", "registry.cli", "audit", "verify"]
    env = {"DATABASE_URL": database.dsn("postern_auditor")}
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(args, stdout=full, stderr=subprocess.PIPE, text=True, env=env, check=False)
    assert (ended.returncode, ended.stderr) == (3, "postern: the output cannot be written: No space left on device\n")
