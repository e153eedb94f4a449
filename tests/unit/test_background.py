"""A background job of the proxy never ends in silence."""

import asyncio
import contextlib
import logging

import pytest

from proxy import background as background_module
from proxy.background import Background

pytestmark = pytest.mark.anyio


async def until(condition, what: str) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 -- another task makes it true
            await asyncio.sleep(0.01)


async def test_a_job_that_ends_is_logged_by_name_counted_and_begun_again(caplog: pytest.LogCaptureFixture) -> None:
    """By an exception or without one; the others go on."""
    begun: list[str] = []

    async def breaks() -> None:
        begun.append("breaks")
        if len(begun) == 1:
            raise LookupError("what nobody foresaw")
        await asyncio.Event().wait()

    async def returns() -> None:
        return

    async def runs() -> None:
        await asyncio.Event().wait()

    background = Background()
    with caplog.at_level(logging.ERROR, "postern.background"):
        for job in (breaks, returns, runs):
            background.keep(job.__name__, job)
        assert background.unwell() == ()
        await until(lambda: set(background.unwell()) == {"breaks", "returns"}, "both have ended")
        await until(lambda: len(begun) == 2, "one is back")
    assert "breaks" in background.unwell(), "running again for a moment only"
    assert background.failures()["breaks"] == 1
    assert background.failures()["runs"] == 0
    first = next(record for record in caplog.records if "'breaks'" in record.getMessage())
    assert first.exc_info is not None
    assert "what nobody foresaw" in str(first.exc_info[1])
    await background.aclose()


async def test_closing_ends_every_job_also_one_that_pauses() -> None:
    ended: list[str] = []

    async def runs() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("runs")

    async def breaks() -> None:
        raise LookupError

    background = Background()
    background.keep("runs", runs)
    background.keep("breaks", breaks)
    await until(lambda: background.failures()["breaks"] == 1, "it has ended")
    await background.aclose()
    assert ended == ["runs"]


async def test_closing_ends_a_job_that_loses_its_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `asyncio.wait_for` of Python 3.11 loses it where what is waited for comes in that moment."""
    monkeypatch.setattr(background_module, "AGAIN_S", 0.01)
    lost = 0

    async def deaf() -> None:
        nonlocal lost
        for _ in range(3):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            lost += 1
        await asyncio.Event().wait()

    background = Background()
    background.keep("deaf", deaf)
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await background.aclose()
    assert lost == 3
