"""One `postern up` per state directory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor_plugin.up.claim import claim, holder
from supervisor_plugin.up.errors import AlreadyUpError

HOLD = "import sys, pathlib; from supervisor_plugin.up.claim import claim\nwith claim(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"


def test_second_claim_is_refused_and_names_the_holder(tmp_path: Path) -> None:
    """Another process holds it."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "held\n"
        assert holder(tmp_path) == child.pid
        with pytest.raises(AlreadyUpError, match=f"pid {child.pid}"), claim(tmp_path):
            pass
    finally:
        child.stdin.close()
        child.wait()
        child.stdout.close()
    assert holder(tmp_path) is None


def test_claim_ends_with_a_killed_holder(tmp_path: Path) -> None:
    """No stale lock file ever keeps a fleet down."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    child.kill()
    child.wait()
    child.communicate()
    with claim(tmp_path):
        assert int((tmp_path / "up.lock").read_text()) == os.getpid()


def test_nobody_holds_a_directory_that_was_never_used(tmp_path: Path) -> None:
    """And asking leaves nothing behind."""
    assert holder(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
