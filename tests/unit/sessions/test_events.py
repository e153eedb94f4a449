"""Signed event ids: only the session that was sent one can come back with it, and it says what it belongs to."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.sessions.events import MAX_ID_BYTES, Origin, Position, seal, unseal, with_id
from proxy.wire.sse import SseEvent, SseParser

KEY, OTHER = b"k" * 32, b"o" * 32
EXECUTION = UUID(int=7)

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1, max_size=60)
origins = st.builds(
    Origin,
    execution=st.uuids(),
    rpc_id=st.one_of(st.integers(-(2**100), 2**100), texts),
    method=texts,
    target=st.none() | texts,
)
positions = st.builds(Position, event_id=texts, generation=st.integers(0, 2**31 - 1), origin=st.none() | origins)


def parsed(raw: bytes) -> list[SseEvent]:
    parser = SseParser(1 << 20)
    return [*parser.feed(raw), *parser.finish()]


@given(positions)
def test_what_is_sealed_is_read_again_by_its_own_session_only(position: Position) -> None:
    sealed = seal(position, KEY)
    assert sealed is not None
    assert unseal(sealed.encode(), KEY) == position
    assert unseal(sealed.encode(), OTHER) is None


@given(positions, st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_id_is_accepted(position: Position, at: int, flip: int) -> None:
    sealed = bytearray((seal(position, KEY) or "").encode())
    sealed[at % len(sealed)] ^= flip
    found = unseal(bytes(sealed), KEY)
    assert found is None or found == position  # the last character has bits that mean nothing


@given(st.binary(max_size=3000))
def test_no_bytes_make_it_raise(value: bytes) -> None:
    assert unseal(value, KEY) is None


@given(positions)
def test_a_sealed_id_fits_a_header_line(position: Position) -> None:
    sealed = seal(position, KEY) or ""
    assert sealed.isascii()
    assert sealed.replace("-", "").replace("_", "").isalnum()


def test_an_id_that_would_be_too_long_is_none() -> None:
    assert seal(Position("x" * MAX_ID_BYTES, 0), KEY) is None


def test_the_id_of_the_rpc_request_keeps_its_type() -> None:
    for rpc_id in (1, "1"):
        sealed = seal(Position("e", 0, Origin(EXECUTION, rpc_id, "tools/call", "t")), KEY)
        found = unseal((sealed or "").encode(), KEY)
        assert found is not None
        assert found.origin is not None
        assert (found.origin.rpc_id, type(found.origin.rpc_id)) == (rpc_id, type(rpc_id))


@pytest.mark.parametrize(
    ("method", "key"), [("tools/call", "name"), ("prompts/get", "name"), ("resources/read", "uri")]
)
def test_the_request_behind_an_id_can_be_authorized_again(method: str, key: str) -> None:
    envelope = Origin(EXECUTION, 1, method, "it").envelope()
    assert (envelope.id, envelope.method, envelope.params) == (1, method, {key: "it"})


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"id: 1\ndata: x\n\n", b"id: new\ndata: x\n\n"),
        (b"id:1\r\ndata: x\r\n\r\n", b"id: new\ndata: x\r\n\r\n"),
        (b"event: message\nid: 1\nretry: 5\ndata: x\n\n", b"event: message\nid: new\nretry: 5\ndata: x\n\n"),
        (b"id: 1\nid: 2\ndata: x\n\n", b"id: new\ndata: x\n\n"),
        (b"data: id: 1\nid: 1\n\n", b"data: id: 1\nid: new\n\n"),
        (b"idx: 1\nid: 1\ndata: x\n\n", b"idx: 1\nid: new\ndata: x\n\n"),
        (b"\xef\xbb\xbfid: 1\ndata: x\n\n", b"\xef\xbb\xbfid: new\ndata: x\n\n"),
        (b"data: x\n\n", b"data: x\n\n"),
        (b": comment\n", b": comment\n"),
    ],
)
def test_only_the_id_of_an_event_changes(raw: bytes, expected: bytes) -> None:
    (event, *_) = parsed(raw)
    assert with_id(event, "new") == expected


@given(
    st.lists(
        st.sampled_from([b"id: 7", b"id", b"data: a", b"data: id: 7", b"event: e", b"retry: 3", b": c", b"x: y"]),
        min_size=1,
    ),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
)
def test_all_but_the_id_survives_the_change(lines: list[bytes], end: bytes) -> None:
    raw = end.join([*lines, b"", b""])
    for event in parsed(raw):
        for changed in parsed(with_id(event, "new")):
            assert (changed.data, changed.event, changed.retry) == (event.data, event.event, event.retry)
            assert changed.id == ("new" if event.id is not None else None)
        stripped = parsed(with_id(event, None))  # a comment may stand alone now that no id comes before it
        assert all(each.id is None for each in stripped)
        assert "".join(each.data for each in stripped) == event.data
