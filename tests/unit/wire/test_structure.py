"""Depth and doubled members, told from the text alone."""

import json
from typing import cast

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.structure import count_quotes, is_deeper_than, keeps_all

TEXT = st.text(st.sampled_from('[]{}":,\\ a'), max_size=6)
VALUES = st.recursive(
    st.none() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=15,
)


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, cast("dict[str, object]", value).values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, cast("list[object]", value)), default=0)
    return 0


@given(VALUES, st.sampled_from([None, 1]))
def test_depth_is_that_of_the_decoded_value_whatever_its_strings_say(value: object, indent: int | None):
    text = json.dumps(value, indent=indent).encode()

    assert not is_deeper_than(text, depth(value))
    assert depth(value) == 0 or is_deeper_than(text, depth(value) - 1)


@given(VALUES, st.booleans())
def test_spelling_does_not_change_the_number_of_quotes(value: object, ascii_only: bool):
    plain = json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":")).encode()
    spelled = plain.replace(b'\\"', b"\\u0022")

    assert count_quotes(plain) == count_quotes(json.dumps(value, indent=2).encode())
    assert count_quotes(spelled) == count_quotes(plain) or b"\\\\" in plain


@given(VALUES, TEXT, st.booleans())
def test_a_member_that_was_written_twice_is_missed_however_quotes_are_written(value: object, key: str, spelled: bool):
    once, twice = json.dumps({key: value}), f"{{{json.dumps(key)}: 1, {json.dumps(key)}: {json.dumps(value)}}}"
    for text, is_whole in ((once, True), (twice, False)):
        raw = text.replace('\\"', "\\u0022").encode() if spelled and "\\\\" not in text else text.encode()
        assert keeps_all(msgspec.json.encode(json.loads(raw)), raw) is is_whole


def test_a_doubled_member_cannot_make_up_for_its_quotes():
    raw = b'{"a":"\\u0022\\u0022","a":"\\u0022\\u0022\\u0022\\u0022"}'

    assert raw.count(b'"') == msgspec.json.encode(json.loads(raw)).count(b'"')
    assert not keeps_all(msgspec.json.encode(json.loads(raw)), raw)
