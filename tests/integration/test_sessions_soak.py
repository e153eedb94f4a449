"""A short form of scripts/soak: sessions that are opened and abandoned leave nothing behind."""

from pathlib import Path

import pytest

from tests.fixtures_postgres import Database
from tests.soak.run import soak


@pytest.mark.slow
@pytest.mark.anyio
async def test_abandoned_sessions_leave_nothing_behind(tmp_path: Path, database: Database, capsys) -> None:
    """Memory, descriptors, connections, rows that are open, sessions and streams of the server."""
    is_flat = await soak(tmp_path / "soak", database.dsn("postern_proxy"), database.dsn(), total=1200, at_once=12)
    assert is_flat, capsys.readouterr().out
