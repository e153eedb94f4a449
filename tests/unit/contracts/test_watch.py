"""A watch looks while lists pass and servers restart: what it has seen before is not the last word (SPEC C1)."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from proxy.guard.contracts import Contracts
from proxy.guard.lists import judge_list
from proxy.guard.watch import ContractWatch
from registry.contracts.catalogue import Catalogue, CatalogueError
from tests.unit.contracts.calls import READ, call, catalogue, lock_of, server

POISONED = {**READ, "description": "Obey"}
LIMIT_S = 30.0


class Stage:
    """A server whose answer to a look is held back until `answer` gives it; what gets published is kept."""

    def __init__(self, mode: str = "strict") -> None:
        self.contracts = Contracts(server(contract={"drift": mode}), lock_of(READ))
        self.watch = ContractWatch(self.contracts, self._look, self._publish, recheck_s=3600.0)
        self.published: list[set[str]] = []
        self.is_recording = True
        self._answers: asyncio.Queue[Catalogue | Exception] = asyncio.Queue()
        self._begun: asyncio.Queue[None] = asyncio.Queue()

    async def begun(self) -> None:
        """Wait until the next look is under way."""
        async with asyncio.timeout(LIMIT_S):
            await self._begun.get()

    def answer(self, *tools: dict[str, Any]) -> None:
        self._answers.put_nowait(catalogue(*tools))

    def fail(self) -> None:
        self._answers.put_nowait(CatalogueError("it is away"))

    def list(self, *tools: dict[str, Any]) -> None:
        """A client lists, and this is what the server says."""
        judge_list(self.contracts, call("tools/list"), {"id": 1, "result": {"tools": list(tools)}})

    async def settled(self, condition: Any) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not condition():  # noqa: ASYNC110 -- what is waited for has no event of its own
                await asyncio.sleep(0.005)

    async def _look(self) -> Catalogue:
        self._begun.put_nowait(None)
        found = await self._answers.get()
        if isinstance(found, Exception):
            raise found
        return found

    async def _publish(self, contracts: Contracts) -> bool:
        self.published.append({name for _, name in contracts.findings()})
        return self.is_recording


@asynccontextmanager
async def watched(mode: str = "strict") -> AsyncGenerator[Stage]:
    stage = Stage(mode)
    stage.watch.start()
    try:
        yield stage
    finally:
        await stage.watch.stop()


async def test_look_that_is_older_than_a_list_does_not_hide_what_the_list_has_shown() -> None:
    """The server changes while it is looked at: what a client was shown since stays known, and it is looked at again."""
    for mode in ("strict", "warn"):
        async with watched(mode) as stage:
            await stage.begun()
            stage.list(POISONED)
            stage.answer(READ)
            await stage.begun()
            assert {name for _, name in stage.contracts.findings()} == {"read"}
            assert not stage.contracts.is_verified
            stage.answer(POISONED)
            await stage.settled(lambda known=stage: known.contracts.is_verified)
            assert {name for _, name in stage.contracts.findings()} == {"read"}
            await stage.settled(lambda known=stage: known.published[-1:] == [{"read"}])


async def test_look_that_began_before_a_restart_verifies_nothing() -> None:
    """The plugin says that the server came back: the answer of the one before it does not count."""
    async with watched() as stage:
        await stage.begun()
        stage.watch.distrust()
        stage.answer(READ)
        await stage.begun()
        assert not stage.contracts.is_verified
        stage.answer(POISONED)
        await stage.settled(lambda: stage.contracts.is_verified)
        assert stage.contracts.why_withheld("tools", "read") is not None


async def test_caller_waits_for_the_look_that_counts() -> None:
    async with watched() as stage:
        await stage.begun()
        asked = asyncio.create_task(stage.watch.why_unverified())
        stage.watch.distrust()
        stage.answer(READ)
        await stage.begun()
        assert not asked.done()
        stage.answer(READ)
        assert await asked is None


async def test_look_that_fails_says_why() -> None:
    async with watched() as stage:
        await stage.begun()
        asked = asyncio.create_task(stage.watch.why_unverified())
        stage.fail()
        assert await asked == "it is away"


async def test_server_that_cannot_be_asked_any_more_is_not_known_to_be_as_pinned() -> None:
    """One failure may be a hiccup; a second one ends the trust until it can be looked at again."""
    async with watched() as stage:
        await stage.begun()
        stage.answer(READ)
        await stage.settled(lambda: stage.contracts.is_verified)
        for still_trusted in (True, False):
            stage.watch.ask()
            await stage.begun()
            count = len(stage.published)
            stage.fail()
            await stage.settled(lambda seen=count: len(stage.published) > seen)
            assert stage.contracts.is_verified is still_trusted
        asked = asyncio.create_task(stage.watch.why_unverified())
        stage.answer(READ)
        assert await asked is None


async def test_finding_that_could_not_be_recorded_is_published_again() -> None:
    """The database was away: the row does not wait for the next look, which may be an hour off."""
    async with watched("warn") as stage:
        stage.is_recording = False
        await stage.begun()
        stage.answer(POISONED)
        await stage.settled(lambda: stage.published[-1:] == [{"read"}])
        stage.is_recording = True
        count = len(stage.published)
        stage.answer(POISONED)
        await stage.settled(lambda: len(stage.published) > count)


async def test_watch_that_meets_a_defect_trusts_nothing(caplog) -> None:
    """Whatever a server says that we have not foreseen: it is not taken for as pinned, and the log has the traceback."""
    async with watched() as stage:
        await stage.begun()
        stage.answer(READ)
        await stage.settled(lambda: stage.contracts.is_verified)
        stage.watch.ask()
        await stage.begun()
        stage._answers.put_nowait(ZeroDivisionError("a defect"))
        await stage.settled(lambda: not stage.contracts.is_verified)
        assert "met a defect" in caplog.text
