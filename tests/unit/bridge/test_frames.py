import json
import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.bridge.frames import (
    FrameError,
    FrameSplitter,
    Kind,
    Oversized,
    error_message,
    kind_of,
    parse_message,
    readable_id,
    render_message,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_what_is_rendered_is_one_line_and_parses_to_the_same(message: dict[str, Any]):
    raw = render_message(message)
    assert b"\n" not in raw
    assert raw.isascii()
    assert parse_message(raw) == message


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_frame_error(raw: bytes):
    with suppress(FrameError):
        assert isinstance(parse_message(raw), dict)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"1",
        b'"x"',
        b"null",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b"{} {}",
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_not_one_strict_object_is_refused(raw: bytes):
    with pytest.raises(FrameError):
        parse_message(raw)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le"])
def test_other_encodings_are_refused(encoding: str):
    with pytest.raises(FrameError):
        parse_message('{"jsonrpc":"2.0"}'.encode(encoding))


def test_nesting_that_exhausts_the_parser_is_a_frame_error():
    with pytest.raises(FrameError, match="deep"):
        parse_message(b'{"a":' * 50_000 + b"1" + b"}" * 50_000)


def test_a_number_without_a_json_form_is_a_frame_error():
    message = parse_message(b'{"a": 1e999}')
    assert math.isinf(message["a"])
    with pytest.raises(FrameError):
        render_message(message)


def test_half_surrogates_survive():
    assert render_message(parse_message(b'{"a":"\\ud83d"}')) == b'{"a":"\\ud83d"}'


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ({"id": 1, "method": "m"}, Kind.REQUEST),
        ({"id": "a", "method": "m", "params": {}}, Kind.REQUEST),
        ({"method": "m"}, Kind.NOTIFICATION),
        ({"id": 1, "result": {}}, Kind.RESPONSE),
        ({"id": None, "error": {"code": 1, "message": ""}}, Kind.RESPONSE),
        ({"id": None, "method": "m"}, None),
        ({"id": 1.0, "method": "m"}, None),
        ({"id": True, "method": "m"}, None),
        ({"id": [], "result": {}}, None),
        ({"id": 1, "method": 5}, None),
        ({"id": 1, "method": "m", "params": []}, None),
        ({"id": 1, "method": "m", "params": None}, None),
        ({"id": 1, "method": "m", "result": {}}, None),
        ({"id": 1, "result": {}, "error": {}}, None),
        ({"id": 1}, None),
        ({}, None),
    ],
)
def test_the_three_shapes_and_nothing_else(message: dict[str, Any], kind: Kind | None):
    assert kind_of({"jsonrpc": "2.0", **message}) is kind
    assert kind_of(message) is None, "without jsonrpc 2.0 it is no message"


def test_an_error_echoes_only_an_id_that_is_one():
    assert [readable_id({"id": value}) for value in (1, "a", None, 1.5, True, [])] == [1, "a", None, None, None, None]
    assert error_message(None, -32700, "x") == {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "x"}}


@given(st.lists(st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b".")), max_size=20), st.integers(1, 7))
def test_lines_come_out_whole_however_the_pipe_cuts_them(lines: list[bytes], size: int):
    data = b"".join(line + b"\n" for line in lines)
    splitter = FrameSplitter(1000)
    out = [frame for start in range(0, len(data), size) for frame in splitter.feed(data[start : start + size])]
    assert out == [line for line in lines if line.strip()]


@given(st.integers(1, 50), st.integers(1, 300), st.integers(1, 64))
def test_a_line_above_the_cap_is_reported_once_and_the_next_one_is_whole(cap: int, extra: int, size: int):
    data = b"x" * (cap + extra) + b"\n{}\n" if cap >= 2 else b"x" * (cap + extra) + b"\n"
    splitter = FrameSplitter(cap)
    out = [frame for start in range(0, len(data), size) for frame in splitter.feed(data[start : start + size])]
    assert out[0] == Oversized(cap + extra, None)
    assert out[1:] == ([b"{}"] if cap >= 2 else [])


@pytest.mark.parametrize("size", [1, 50, 10_000])
@pytest.mark.parametrize("id_first", [True, False])
def test_an_oversized_answer_still_names_its_request(size: int, *, id_first: bool):
    head, tail = ({"jsonrpc": "2.0", "id": 77}, {}) if id_first else ({}, {"jsonrpc": "2.0", "id": 77})
    data = json.dumps({**head, "result": {"text": "y" * 5000}, **tail}, separators=(",", ":")).encode() + b"\n"
    splitter = FrameSplitter(100)
    out = [frame for start in range(0, len(data), size) for frame in splitter.feed(data[start : start + size])]
    assert out == [Oversized(len(data) - 1, 77)]


@pytest.mark.parametrize(
    "data",
    [
        b'{"result":{"x":"' + b"y" * 300 + b'","inner":{"id":5}}}',
        b'{"result":"' + b"y" * 300 + b',\\"id\\":5}"}',
        b'{"a":{"jsonrpc":"2.0","id":5,"x":"' + b"y" * 300 + b'"}}',
    ],
)
def test_an_id_deeper_inside_is_not_taken_for_the_requests(data: bytes):
    assert list(FrameSplitter(100).feed(data + b"\n")) == [Oversized(len(data), None)]
