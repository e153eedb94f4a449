import asyncio
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.bridge.stream import MAX_BYTES, MAX_EVENTS, Stream, parse_event_id, render_event_id


class Stopped:
    """A reader that counts how often it was told to stop."""

    def __init__(self) -> None:
        self.stops = 0

    def stop(self) -> None:
        self.stops += 1


def bodies_after(stream: Stream, seq: int) -> list[bytes]:
    bodies: list[bytes] = []
    while (event := stream.next_after(seq)) is not None:
        bodies.append(event.body)
        seq = event.seq
    return bodies


@given(st.integers(0, 20), st.integers(0, 25))
def test_a_replayable_stream_gives_everything_after_a_position_again_and_again(count: int, position: int):
    stream = Stream("1", is_replayable=True)
    for number in range(1, count + 1):
        stream.push(str(number).encode())
    expected = [str(number).encode() for number in range(position + 1, count + 1)]
    assert bodies_after(stream, position) == expected
    assert bodies_after(stream, position) == expected


def test_a_stream_that_is_not_replayable_forgets_what_was_read():
    stream = Stream("1", is_replayable=False)
    for body in (b"a", b"b", b"c"):
        stream.push(body)
    assert bodies_after(stream, 1) == [b"b", b"c"]
    assert bodies_after(stream, 0) == []
    assert stream.held_bytes == 0


def test_the_oldest_go_when_there_are_too_many_and_the_last_message_stays():
    stream = Stream("1", is_replayable=True)
    for number in range(MAX_EVENTS + 10):
        stream.push(str(number).encode())
    stream.push(b"answer", is_last=True)
    kept = bodies_after(stream, 0)
    assert (len(kept), kept[0], kept[-1]) == (MAX_EVENTS, b"11", b"answer")
    huge = Stream("2", is_replayable=True)
    huge.push(b"small")
    huge.push(b"x" * (MAX_BYTES + 1), is_last=True)
    assert [len(body) for body in bodies_after(huge, 0)] == [MAX_BYTES + 1]


def test_nothing_comes_after_the_last_message():
    stream = Stream("1", is_replayable=True)
    stream.push(b"answer", is_last=True)
    stream.push(b"late")
    assert bodies_after(stream, 0) == [b"answer"]
    assert stream.is_closed


async def test_a_waiter_is_woken_by_a_message_and_by_the_close():
    stream = Stream("1", is_replayable=True)
    for wake in (partial(stream.push, b"x"), stream.close):
        change = stream.change()
        assert not change.done()
        wake()
        await asyncio.wait_for(change, 1)


def test_a_new_reader_stops_the_old_one_and_only_the_old_one():
    stream, old, new = Stream("1", is_replayable=True), Stopped(), Stopped()
    stream.attach(old)
    stream.attach(new)
    assert (old.stops, new.stops, stream.is_read) == (1, 0, True)
    stream.detach(old)
    assert stream.is_read
    stream.detach(new)
    assert not stream.is_read


@given(st.integers(0, 10**9))
def test_event_ids_name_their_stream_and_position(seq: int):
    assert parse_event_id(render_event_id("s", seq)) == ("s", seq)


@pytest.mark.parametrize("text", ["", "-", "1", "1-", "1-x", "1-²", "1--", "1-" + "9" * 100, "\x00-\x00"])
def test_other_event_ids_name_nothing(text: str):
    assert parse_event_id(text) is None
