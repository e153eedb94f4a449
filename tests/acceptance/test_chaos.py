"""The short form of scripts/chaos: the proxy killed at every point of a call, the database hurt, and every claim counted."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.crashing_proxy import POINTS

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_no_answer_and_no_dispatched_call_is_without_its_row_whatever_dies() -> None:
    """Each point of a call once, one restart of PostgreSQL, cut connections: every claim holds, and the chains verify."""
    command = [sys.executable, "-m", "tests.chaos.run", "--requests", "400", "--kills", str(len(POINTS)), "--seed", "7"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "every claim holds" in run.stdout
    for point in POINTS:
        assert f"'{point}': 1" in run.stdout, f"{point} was not reached:\n{run.stdout}"
