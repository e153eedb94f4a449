"""The end of a request from outside: by time, by a strike, and never taken for somebody else's cancellation."""

import asyncio

import pytest

from proxy.execution.deadline import Clock, Deadline

NEVER_S = 3600.0


async def until_struck(deadline: Deadline, limit_s: float | None) -> str:
    """Wait inside the deadline as an execution does; return how it ended."""
    deadline.begin(limit_s)
    try:
        await asyncio.sleep(NEVER_S)
    except asyncio.CancelledError:
        if not deadline.is_mine():
            raise
        return "struck"
    finally:
        deadline.end()
    return "slept"


async def test_time_that_is_over_ends_the_task_once():
    deadline = Deadline(Clock())
    async with asyncio.timeout(10):
        assert await until_struck(deadline, 0.01) == "struck"
    task = asyncio.current_task()
    assert task is not None
    assert deadline.has_struck
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_a_strike_from_outside_ends_the_task():
    deadline = Deadline(Clock())
    task = asyncio.create_task(until_struck(deadline, None))
    await asyncio.sleep(0)
    assert deadline.is_running
    deadline.strike()
    assert await task == "struck"
    assert not deadline.is_running


async def test_a_cancellation_by_others_is_not_the_deadlines():
    deadline = Deadline(Clock())
    task = asyncio.create_task(until_struck(deadline, NEVER_S))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not deadline.has_struck


async def test_of_both_at_once_the_others_cancellation_counts():
    """A drain cancels the task in the moment in which its time is over: it must not go on as if it had only timed out."""
    deadline = Deadline(Clock())
    task = asyncio.create_task(until_struck(deadline, NEVER_S))
    await asyncio.sleep(0)
    deadline.strike()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_after_its_end_nothing_strikes():
    deadline = Deadline(Clock())
    deadline.begin(0.0)
    deadline.end()
    deadline.strike()
    await asyncio.sleep(0.01)
    assert not deadline.has_struck
    assert not deadline.is_running


async def test_a_limit_that_is_over_already_strikes_at_the_first_pause():
    assert await until_struck(Deadline(Clock()), -5.0) == "struck"


async def test_one_clock_strikes_each_deadline_at_its_own_time():
    """The later one is begun first, one is ended before its time, and one comes when the timer has run out once."""
    clock, order = Clock(), list[str]()

    async def wait(name: str, limit_s: float) -> None:
        assert await until_struck(Deadline(clock), limit_s) == "struck"
        order.append(name)

    ended = Deadline(clock)
    ended.begin(0.005)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(wait("later", 0.06))
        group.create_task(wait("sooner", 0.02))
        ended.end()
        await wait("here", 0.04)
    assert order == ["sooner", "here", "later"]
    assert not ended.has_struck
    async with asyncio.timeout(10):
        await wait("again", 0.01)
