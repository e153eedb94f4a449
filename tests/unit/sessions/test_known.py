"""How long a worker believes what it remembers of a session instead of asking PostgreSQL."""

import asyncio
import math
from collections.abc import Callable
from time import time
from types import SimpleNamespace
from typing import Any

import pytest

from proxy.auth.identity import Anonymous
from proxy.sessions.store import Sessions

pytestmark = pytest.mark.anyio
ID = "s" * 22


def server(idle_s: float = 3600.0) -> Any:
    return SimpleNamespace(name="notes", sessions=SimpleNamespace(idle_s=idle_s, absolute_s=math.inf))


class Table:
    """A pool whose table holds one session; counts how often it is read. `meanwhile` happens while a row travels."""

    def __init__(self) -> None:
        self.reads = 0
        self.is_open = True
        self.meanwhile: Callable[[], None] = lambda: None

    async def fetch(self, *_: object) -> list[dict[str, Any]]:
        self.reads += 1
        rows = [self._row()] if self.is_open else []
        await asyncio.sleep(0)
        self.meanwhile()
        return rows

    def _row(self) -> dict[str, Any]:
        who = {"issuer": "", "subject": "", "client": ""}
        bound = {"upstream_id": "up", "protocol_version": "2025-11-25", "event_key": b"k" * 32, "generation": 0}
        return {"id": ID, "server": "notes", "expires": time() + 3600} | who | bound


class Scene:
    """Sessions at a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.table = Table()
        pool: Any = self.table
        self.sessions = Sessions(pool, lambda: self.now, time)

    async def is_found(self, idle_s: float = 3600.0) -> bool:
        return await self.sessions.find(ID, server(idle_s), Anonymous()) is not None

    async def use(self, times: int, every_s: float, idle_s: float = 3600.0) -> int:
        """Use the session while notifications are known to arrive; return how often it was read."""
        before = self.table.reads
        for _ in range(times):
            self.now += every_s
            self.sessions.heard(self.now)
            assert await self.is_found(idle_s)
        return self.table.reads - before


async def test_it_is_read_once_for_as_long_as_changes_are_heard_of() -> None:
    assert await Scene().use(100, 2.0) == 1


async def test_it_is_read_again_after_five_minutes_or_half_its_idle_time_however_well_it_is_known() -> None:
    assert await Scene().use(100, 10.0) == 4
    assert await Scene().use(100, 1.0, idle_s=20.0) == 10


async def test_nothing_is_believed_before_changes_are_heard_of_and_after_ten_seconds_without_a_word() -> None:
    scene = Scene()
    assert await scene.is_found()
    assert await scene.is_found()
    assert scene.table.reads == 2
    await scene.use(1, 1.0)
    known = scene.table.reads
    scene.now += 9.9
    assert await scene.is_found()
    assert scene.table.reads == known
    scene.now += 0.2
    scene.table.is_open = False
    assert not await scene.is_found()


@pytest.mark.parametrize("tell", [lambda sessions: sessions.forget(ID), lambda sessions: sessions.forget_all()])
async def test_what_changed_is_read_again(tell: Callable[[Sessions], None]) -> None:
    scene = Scene()
    await scene.use(2, 1.0)
    scene.table.is_open = False
    tell(scene.sessions)
    assert not await scene.is_found()


async def test_what_changes_while_it_is_read_is_not_remembered() -> None:
    """The word of the change may come before the row that was read before it."""
    scene = Scene()
    scene.sessions.heard(scene.now)

    def revoke() -> None:
        scene.table.is_open = False
        scene.sessions.forget(ID)

    scene.table.meanwhile = revoke
    assert await scene.is_found()
    assert not await scene.is_found()
