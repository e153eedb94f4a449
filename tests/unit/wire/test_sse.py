"""Events that keep their bytes, however the stream is cut; httpx2's decoder is the oracle."""

from itertools import pairwise

import httpx2
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from proxy.wire.sse import SseError, SseEvent, SseParser, encode_event


def parsed(*chunks: bytes, limit: int = 1 << 20) -> list[SseEvent]:
    parser = SseParser(limit)
    return [event for chunk in chunks for event in parser.feed(chunk)] + parser.finish()


def test_an_event_has_its_fields_and_its_bytes():
    raw = b"event: message\nid: 5\nretry: 10\ndata: a\ndata: b\nother: x\n\n"

    assert parsed(raw) == [SseEvent(raw, "message", "a\nb", "5", 10)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_each_line_end_ends_lines(end: bytes):
    raw = end.join([b"id: 1", b"data: x", b"", b"data: y", b"", b""])

    assert [(event.id, event.data) for event in parsed(raw)] == [("1", "x"), (None, "y")]
    assert b"".join(event.raw for event in parsed(raw)) == raw


def test_keepalives_come_out_at_once():
    parser = SseParser(100)

    assert [event.raw for event in parser.feed(b": ping\n")] == [b": ping\n"]
    assert [event.raw for event in parser.feed(b"\n")] == [b"\n"]
    assert parser.feed(b"data: x\n: inside\n") == []
    assert parser.feed(b"\n") == [SseEvent(b"data: x\n: inside\n\n", data="x")]


def test_an_event_comes_out_with_its_last_byte():
    parser = SseParser(100)

    assert parser.feed(b"data: x\r\n\r") == []
    assert len(parser.feed(b"\n")) == 1


def test_a_carriage_return_at_the_end_waits_for_the_end():
    parser = SseParser(100)

    assert parser.feed(b"data: x\r\r") == []
    assert parser.finish() == [SseEvent(b"data: x\r\r", data="x")]


def test_an_unfinished_event_is_dropped():
    assert parsed(b"data: x\n") == []
    assert parsed(b"data: x") == []


def test_a_priming_event_has_an_id_and_no_data():
    assert parsed(b"id: abc\ndata: \n\n") == [SseEvent(b"id: abc\ndata: \n\n", id="abc")]


def test_an_empty_id_is_not_a_missing_one():
    assert [event.id for event in parsed(b"id:\ndata: x\n\ndata: x\n\n")] == ["", None]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"data\n\n", ""),
        (b"data:x\n\n", "x"),
        (b"data:  x \n\n", " x "),
        (b"data: a:b\n\n", "a:b"),
        (b"Data: x\n\n", ""),
        (b" data: x\n\n", ""),
        (b"data: \xe2\x80\xa8x\n\n", "\u2028x"),
        (b"data: a\x0bb\x85c\n\n".replace(b"\x85", b"\xc2\x85"), "a\x0bb\x85c"),
    ],
)
def test_fields_are_split_as_the_standard_says(raw: bytes, expected: str):
    assert [event.data for event in parsed(raw)] == [expected]


def test_ids_with_nul_and_retries_with_letters_are_ignored():
    (event,) = parsed(b"id: 1\nid: a\0b\nretry: 5\nretry: 1x\ndata: x\n\n")

    assert (event.id, event.retry) == ("1", 5)


def test_a_byte_order_mark_is_passed_over_and_kept():
    raw = b"\xef\xbb\xbfdata: x\n\n"

    for chunks in ([raw], [bytes([byte]) for byte in raw]):
        assert parsed(*chunks) == [SseEvent(raw, data="x")]
    assert [event.data for event in parsed(b"data: y\n\n" + raw)] == ["y", ""]


@pytest.mark.parametrize(
    "raw", [b"data: " + b"x" * 100 + b"\n\n", b"data: " + b"x" * 100, b"a: b\n" * 30, b":" + b"x" * 100]
)
def test_an_event_over_the_limit_is_an_error(raw: bytes):
    with pytest.raises(SseError, match="exceeds"):
        parsed(raw, limit=64)
    with pytest.raises(SseError, match="exceeds"):
        parsed(*(bytes([byte]) for byte in raw), limit=64)


def test_the_limit_is_for_one_event_and_not_for_the_stream():
    assert len(parsed(b"data: x\n\n" * 1000, limit=64)) == 1000


@pytest.mark.parametrize("raw", [b"data: \xff\n\n", b"event: \xff\n\n", b"id: \xff\n\n"])
def test_fields_that_are_not_utf8_are_an_error(raw: bytes):
    with pytest.raises(SseError, match="UTF-8"):
        parsed(raw)


LINES = [b"data: x", b"data:", b"data", b"id: 1", b"id", b"event: e", b"retry: 5", b": c", b"x", b" ", b":", b"\0"]
ENDS = [b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"\r\r"]
PIECES = st.sampled_from([*LINES, *ENDS, "é".encode(), b"\xef\xbb\xbf"])
STREAMS = st.lists(PIECES, max_size=30).map(b"".join)


@given(STREAMS, st.lists(st.integers(0, 200)))
@example(b"\xef\xbb\xbfdata: x\r\n\r\n", [1, 2, 11, 12, 13, 14])
def test_any_cut_gives_the_same_events(stream: bytes, cuts: list[int]):
    edges = [0, *sorted({cut for cut in cuts if cut < len(stream)}), len(stream)]
    chunks = [stream[start:end] for start, end in pairwise(edges)]

    assert parsed(*chunks) == parsed(stream)


@given(STREAMS)
def test_the_bytes_of_the_events_are_the_stream(stream: bytes):
    raws = b"".join(event.raw for event in parsed(stream))

    assert stream.startswith(raws)
    assert b"\n\n" not in stream[len(raws) :]


@given(STREAMS)
def test_httpx2_reads_the_same_events(stream: bytes):
    stream = stream.replace(b"\xef\xbb\xbf", b"")  # httpx2 leaves the mark to its text decoder
    assume(not stream.endswith(b"\r"))  # httpx2 takes it for two line ends
    assume(b"retry: 5 " not in stream)  # httpx2 takes digits with spaces around them
    response = httpx2.Response(
        200,
        headers={"content-type": "text/event-stream; charset=utf-8"},
        content=stream,
        request=httpx2.Request("GET", "http://x"),
    )
    theirs = [(event.event, event.data, event.id, event.retry) for event in httpx2.EventSource(response)]

    ours: list[tuple[str, str, str, int | None]] = []
    last_id = ""
    for event in parsed(stream):
        last_id = event.id if event.id is not None else last_id
        names = {line.split(b":")[0] for line in event.raw.replace(b"\r", b"\n").split(b"\n")}
        if names & {b"data", b"event"} or event.id is not None or event.retry is not None:
            ours.append((event.event or "message", event.data, last_id, event.retry))
    assert ours == theirs


@given(st.binary(max_size=300), st.integers(1, 64))
def test_no_bytes_make_it_raise_anything_else(stream: bytes, limit: int):
    try:
        parsed(stream, limit=limit)
    except SseError:
        return


@given(st.text(), st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0")), st.none() | st.integers(0, 10**9))
def test_an_encoded_event_reads_back(data: str, kind: str, retry: int | None):
    (event,) = parsed(encode_event(data, event=kind, id=kind, retry=retry))

    assert event.data == data.replace("\r\n", "\n").replace("\r", "\n")
    assert (event.event, event.id, event.retry) == (kind, kind, retry)


@pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\0b", "\ud800"])
def test_a_type_or_id_that_would_break_the_line_is_refused(bad: str):
    with pytest.raises(ValueError):
        encode_event("x", id=bad)
    with pytest.raises(ValueError):
        encode_event("x", event=bad)
