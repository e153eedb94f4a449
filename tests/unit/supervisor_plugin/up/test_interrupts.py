"""Ctrl-C: the first ends in order, the second at once, an echo of the first counts for nothing."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from supervisor_plugin.up.interrupts import SAME_WISH_S, SIGNALS, Interrupts, taken_signals


async def until_cancelled() -> None:
    await asyncio.Event().wait()


async def seen(interrupts: Interrupts, count: int) -> None:
    async with asyncio.timeout(5):
        while interrupts.count < count:  # noqa: ASYNC110 - a signal handler counts
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The process of the tests goes on afterwards."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.anyio
async def test_first_signal_cancels_the_work_and_second_asks_for_haste() -> None:
    notes: list[str] = []
    work = asyncio.create_task(until_cancelled())
    interrupts = Interrupts(work, notes.append)
    with interrupts.handled():
        os.kill(os.getpid(), signal.SIGINT)
        await seen(interrupts, 1)
        os.kill(os.getpid(), signal.SIGINT)  # the shell's echo of the same key press
        await asyncio.wait([work], timeout=5)
        assert work.cancelled()
        assert not interrupts.hurry()
        await asyncio.sleep(SAME_WISH_S)
        os.kill(os.getpid(), signal.SIGTERM)
        await seen(interrupts, 2)
    os.kill(os.getpid(), signal.SIGINT)  # all is done: a late key press changes nothing
    assert interrupts.hurry()
    assert len(notes) == 1


@pytest.mark.parametrize(("before", "is_taken"), [(signal.SIG_IGN, False), (signal.SIG_DFL, True)])
def test_a_hangup_ends_us_unless_it_is_ignored_as_under_nohup(before: signal.Handlers, is_taken: bool) -> None:
    signal.signal(signal.SIGHUP, before)
    assert (signal.SIGHUP in taken_signals()) is is_taken
    assert {signal.SIGINT, signal.SIGTERM} <= set(taken_signals())
