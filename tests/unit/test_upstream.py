"""The pure parts of the upstream client: targets, request lines, response heads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream import (
    UpstreamError,
    UpstreamInvalidRequest,
    UpstreamLimits,
    UpstreamProtocolError,
    UpstreamTarget,
    UpstreamTooLarge,
)
from proxy.upstream.head import read_framing
from proxy.upstream.request import render_request


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        ("http://127.0.0.1:5001/mcp", "127.0.0.1:5001", "/mcp"),
        ("http://example.com", "example.com", "/"),
        ("https://example.com:443/a?b=c", "example.com", "/a?b=c"),
        ("https://example.com:80/", "example.com:80", "/"),
        ("http://[::1]:5001/mcp", "[::1]:5001", "/mcp"),
        ("http://[::1]/mcp", "[::1]", "/mcp"),
    ],
)
def test_a_url_becomes_a_target(url: str, authority: str, path: str):
    target = UpstreamTarget.from_url(url)

    assert (target.authority, target.path) == (authority, path)


@pytest.mark.parametrize(
    "url",
    ["ftp://host/", "//host/", "host/mcp", "http:///mcp", "http://user:pass@host/", "http://h/#f", "http://h:99999/"],
)
def test_what_is_no_upstream_url_is_refused(url: str):
    with pytest.raises(ValueError):
        UpstreamTarget.from_url(url)


def test_a_request_carries_our_host_and_length_and_asks_for_no_compression():
    raw = render_request(b"POST", b"/mcp", b"localhost:5001", [(b"accept", b"application/json")], b"{}")

    assert raw == (
        b"POST /mcp HTTP/1.1\r\nhost: localhost:5001\r\naccept-encoding: identity\r\n"
        b"accept: application/json\r\ncontent-length: 2\r\n\r\n{}"
    )


def test_a_get_without_body_has_no_length():
    assert b"content-length" not in render_request(b"GET", b"/", b"h", [], b"")


def test_an_empty_post_says_that_it_is_empty():
    assert b"content-length: 0\r\n" in render_request(b"POST", b"/", b"h", [], b"")


@pytest.mark.parametrize(
    "header",
    [
        (b"x", b"a\r\nevil: 1"),
        (b"x", b"a\nb"),
        (b"x", b"a\rb"),
        (b"x", b"a\0b"),
        (b"x\r\nevil", b"1"),
        (b"x: y\r\nz", b"1"),
        (b"x y", b"1"),
        (b"x:", b"1"),
        (b"", b"1"),
        (b"x\xe9", b"1"),
        (b"Host", b"other"),
        (b"content-length", b"5"),
        (b"Transfer-Encoding", b"chunked"),
        (b"connection", b"close"),
        (b"Accept-Encoding", b"gzip"),
    ],
)
def test_headers_that_would_change_the_message_are_refused(header: tuple[bytes, bytes]):
    with pytest.raises(UpstreamInvalidRequest) as caught:
        render_request(b"POST", b"/", b"h", [header], b"")
    assert not caught.value.sent


@pytest.mark.parametrize("path", [b"", b"mcp", b"/a b", b"/a\r\nx", b"/a#b", b"/\xe9", b"http://other/"])
def test_paths_that_would_change_the_request_line_are_refused(path: bytes):
    with pytest.raises(UpstreamInvalidRequest):
        render_request(b"POST", path, b"h", [], b"")


@given(st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=8)), max_size=4))
def test_whatever_headers_are_given_no_line_is_added(headers: list[tuple[bytes, bytes]]):
    try:
        raw = render_request(b"POST", b"/", b"h", headers, b"")
    except UpstreamInvalidRequest:
        return

    assert raw.count(b"\r\n") == len(headers) + 5
    assert raw.count(b"\n") == raw.count(b"\r")


def framing(status: int, *headers: tuple[bytes, bytes], is_head: bool = False):
    return read_framing(status, headers, is_head=is_head, max_body_bytes=100)


def test_a_body_without_length_ends_with_the_connection():
    assert framing(200).until_close
    assert not framing(200, (b"content-length", b"3")).until_close
    assert not framing(200, (b"transfer-encoding", b"chunked")).until_close


@pytest.mark.parametrize(("status", "is_head"), [(204, False), (304, False), (200, True)])
def test_answers_without_body_do_not_wait_for_the_connection_to_close(status: int, is_head: bool):
    result = framing(status, (b"content-length", b"999"), is_head=is_head)

    assert not result.has_body
    assert not result.until_close


@pytest.mark.parametrize(
    "header",
    [
        (b"content-encoding", b"gzip"),
        (b"content-encoding", b"identity, br"),
        (b"transfer-encoding", b"gzip, chunked"),
        (b"transfer-encoding", b"identity"),
    ],
)
def test_codings_that_we_did_not_ask_for_are_refused(header: tuple[bytes, bytes]):
    with pytest.raises(UpstreamProtocolError):
        framing(200, header)


def test_identity_is_no_coding():
    assert framing(200, (b"content-encoding", b"Identity"), (b"content-length", b"1")).has_body


def test_a_declared_length_over_the_limit_is_refused_at_once():
    with pytest.raises(UpstreamTooLarge):
        framing(200, (b"content-length", b"101"))


@pytest.mark.parametrize("status", [0, 101, 199, 600, 999])
def test_a_status_outside_the_final_ones_is_refused(status: int):
    with pytest.raises(UpstreamProtocolError):
        framing(status)


def test_an_event_stream_is_not_bound_by_the_body_limit():
    assert framing(200, (b"content-type", b"text/event-stream; charset=utf-8")).max_body_bytes is None
    assert framing(200, (b"content-type", b"application/json")).max_body_bytes == 100


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"timeout=5", 4.0), (b"timeout=5, max=100", 4.0), (b"max=1, Timeout=2", 1.0), (b"timeout=0", 0.0), (b"x", None)],
)
def test_a_connection_is_let_go_before_the_server_does(value: bytes, seconds: float | None):
    assert framing(204, (b"keep-alive", value)).keepalive_s == seconds


def test_every_error_of_the_tree_has_a_code_of_its_own():
    tree = [UpstreamError]
    for cls in tree:
        tree.extend(cls.__subclasses__())

    assert len({cls.code for cls in tree}) == len(tree)


def test_limits_of_a_default_pool_are_all_bounded():
    limits = UpstreamLimits()

    assert all(getattr(limits, name) for name in UpstreamLimits.__slots__)
