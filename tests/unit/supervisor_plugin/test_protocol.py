"""The event-listener protocol, cut into pieces in every way."""

import asyncio
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor_plugin.protocol import ACKNOWLEDGED, READY, Closed, Event, EventSource, Parser, tokens


def envelope(serial: int, payload: str, name: str = "PROCESS_STATE_EXITED") -> bytes:
    head = f"ver:3.0 server:x serial:{serial} pool:p poolserial:{serial} eventname:{name} len:{len(payload)}\n"
    return (head + payload).encode()


payloads = st.text(st.characters(exclude_categories=["Cs"]), max_size=40).map(lambda text: f"pid:1\n{text}")


@given(st.lists(payloads, max_size=6), st.data())
def test_any_text_in_any_pieces_gives_the_same_events(bodies: list[str], data: st.DataObject):
    stream = b"".join(envelope(number, body) for number, body in enumerate(bodies))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    parser, events = Parser(), list[Event]()
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        events += parser.feed(stream[start:end])
    assert [event.body for event in events] == [body.partition("\n")[2] for body in bodies]
    assert all(event.headers == {"pid": "1"} for event in events)


def test_lost_events_are_counted_and_repeated_ones_are_not():
    parser = Parser()
    events = [event for serial in (5, 6, 10, 10, 11) for event in parser.feed(envelope(serial, "a:b\n"))]
    assert [event.lost for event in events] == [None, 0, 3, 0, 0]


def test_tokens_are_split_at_the_first_colon():
    assert tokens("processname:a groupname:b when:12:30 junk") == {
        "processname": "a",
        "groupname": "b",
        "when": "12:30",
    }


class Ends:
    """Both ends of supervisord's two pipes."""

    def __init__(self) -> None:
        self.reader, self.to_listener = os.pipe()
        self.from_listener, self.writer = os.pipe()

    def close(self) -> None:
        for descriptor in (self.reader, self.to_listener, self.from_listener, self.writer):
            try:
                os.close(descriptor)
            except OSError:
                continue


@pytest.fixture
def ends():
    made = Ends()
    yield made
    made.close()


async def test_every_event_is_acknowledged_at_once_and_the_end_is_told_once(ends: Ends):
    queue: asyncio.Queue[Event | Closed] = asyncio.Queue()
    EventSource(ends.reader, ends.writer, queue.put_nowait).start()
    assert os.read(ends.from_listener, 100) == READY
    os.write(ends.to_listener, envelope(1, "a:b\n") + envelope(2, "a:c\n"))
    first, second = await queue.get(), await queue.get()
    assert isinstance(first, Event)
    assert isinstance(second, Event)
    assert (first.headers, second.headers) == ({"a": "b"}, {"a": "c"})
    assert os.read(ends.from_listener, 100) == ACKNOWLEDGED * 2
    os.close(ends.to_listener)
    assert isinstance(await queue.get(), Closed)
    assert queue.empty()


async def test_a_broken_answer_pipe_is_the_end_too(ends: Ends):
    queue: asyncio.Queue[Event | Closed] = asyncio.Queue()
    os.close(ends.from_listener)
    EventSource(ends.reader, ends.writer, queue.put_nowait).start()
    assert isinstance(await queue.get(), Closed)
    assert queue.empty()
