"""The guards of one worker: made for a fleet before it counts, observed only once it does."""

from pathlib import Path
from typing import Any

from proxy.guard.makers import Guards
from registry.models import Fleet
from registry.secrets import SecretReader
from tests.unit.contracts.calls import server

UNUSED: Any = None
"""Nothing is pinned here, so that nothing is watched: neither the database nor the executor is asked."""


async def test_reload_that_was_refused_leaves_the_figures_as_they_were(tmp_path: Path) -> None:
    """A refused fleet has had its guards made, some or all of them; what runs is observed until another is adopted."""
    guards = Guards(tmp_path / "postern.yaml", SecretReader(tmp_path, {}), UNUSED, "here")
    guards.read(Fleet(version=1))
    running = guards.make(server())
    assert guards.observed() == {}
    guards.adopt(UNUSED)
    guards.read(Fleet(version=1))
    guards.make(server().model_copy(update={"name": "other"}))
    assert guards.observed() == {running.server.name: (running.counts, 0)}
    guards.adopt(UNUSED)
    assert [*guards.observed()] == ["other"]
    await guards.aclose()
