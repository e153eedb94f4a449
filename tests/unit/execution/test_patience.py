"""How long a stream waits for a server that is away."""

import pytest

from proxy.execution.patience import BEFORE_OPEN_S, ONCE_OPEN_S, Patience
from proxy.upstream import UpstreamProtocolError, UpstreamUnreachable

pytestmark = pytest.mark.anyio

AWAY = UpstreamUnreachable("connection refused")


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


async def test_a_machine_that_has_just_booted_waits_as_long_as_any_other() -> None:
    """Its steady clock begins near zero."""
    clock = Clock(10.0)
    await Patience(clock).wait(AWAY, is_open=False)


@pytest.mark.parametrize(("is_open", "limit_s"), [(False, BEFORE_OPEN_S), (True, ONCE_OPEN_S)])
async def test_patience_ends_with_its_limit_and_begins_anew_after_a_while(is_open, limit_s) -> None:
    clock = Clock(1000.0)
    patience = Patience(clock)
    await patience.wait(AWAY, is_open=is_open)
    clock.now += limit_s * 0.6
    await patience.wait(AWAY, is_open=is_open)
    clock.now += limit_s * 0.6
    with pytest.raises(UpstreamUnreachable):
        await patience.wait(AWAY, is_open=is_open)
    clock.now += 2 * ONCE_OPEN_S
    await patience.wait(AWAY, is_open=is_open)


async def test_what_waiting_cannot_mend_is_not_waited_for() -> None:
    with pytest.raises(UpstreamProtocolError):
        await Patience(Clock(1000.0)).wait(UpstreamProtocolError("no HTTP"), is_open=True)
