import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.bridge.places import Places
from proxy.bridge.residents import Backoff


@given(st.lists(st.integers(0, 200), min_size=1, max_size=60))
def test_pauses_grow_to_a_bound_and_are_forgiven_after_a_minute(lifetimes: list[int]):
    backoff, now = Backoff(), 0
    for lifetime in lifetimes:
        started = max(now, math.ceil(backoff.ready_at))
        now = started + lifetime
        following = backoff.after_end(started, now)
        pause = following.ready_at - now
        assert 0 <= pause <= 30.01
        if lifetime >= 60:
            assert following.failures == 1
            assert pause == pytest.approx(0, abs=1e-6)
        else:
            assert following.failures == backoff.failures + 1
        backoff = following


def test_the_first_end_costs_nothing_and_the_next_ones_double():
    backoff, pauses = Backoff(), list[float]()
    for _ in range(12):
        backoff = backoff.after_end(started_at=0.0, now=0.0)
        pauses.append(backoff.ready_at)
    assert pauses[:4] == [0.0, 0.2, 0.4, 0.8]
    assert pauses[-1] == 30.0


def test_places_are_counted_and_come_back():
    places = Places(2)
    assert [places.take(), places.take(), places.take()] == [True, True, False]
    places.give_back()
    assert places.take()
