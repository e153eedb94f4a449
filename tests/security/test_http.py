"""What is no HTTP on the running proxy: never a request, never forwarded, and in the trail where it names a server."""

import re
import socket

import pytest

from tests.sidecar import Answer

LIST = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
SMUGGLED = b"GET /open/mcp HTTP/1.1\r\nhost: x\r\n\r\n"


def _exchange(guarded, data: bytes) -> list[Answer]:
    """Send bytes; return every answer until the proxy closes the connection."""
    got = b""
    with socket.create_connection(("127.0.0.1", guarded.sidecar.port), timeout=10) as connection:
        connection.sendall(data)
        while chunk := connection.recv(65536):
            got += chunk
    answers: list[Answer] = []
    while got:
        head, _, rest = got.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        size = int(headers["content-length"])
        answers.append(Answer(int(status.split()[1]), headers, rest[:size]))
        got = rest[size:]
    return answers


def _head(guarded, *lines: bytes, server: bytes = b"a") -> bytes:
    token = guarded.sidecar.token("a", "a:use a:read").encode()
    own = (
        b"host: 127.0.0.1:%d" % guarded.sidecar.port,
        b"content-type: application/json",
        b"authorization: Bearer " + token,
    )
    return b"\r\n".join((b"POST /%b/mcp HTTP/1.1" % server, *own, *lines, b"", b""))


MALFORMED = {
    "length and coding": ((b"content-length: 5", b"transfer-encoding: chunked"), b"0\r\n\r\n", 400),
    "two lengths": ((b"content-length: 46", b"content-length: 3"), LIST, 400),
    "list of lengths": ((b"content-length: 46, 46",), LIST, 400),
    "space before the colon": ((b"transfer-encoding : chunked",), b"0\r\n\r\n", 400),
    "folded line": ((b"x: a", b" transfer-encoding: chunked"), b"", 400),
    "bare line feed": ((b"x: a\ntransfer-encoding: chunked",), b"", 400),
    "NUL": ((b"x: a\0b",), b"", 400),
    "another coding": ((b"transfer-encoding: gzip, chunked",), b"0\r\n\r\n", 501),
    "too many headers": ((b"x: y",) * 101, b"", 431),
    "headers too large": ((b"x: " + b"y" * 40_000,), b"", 431),
    "broken chunk": ((b"transfer-encoding: chunked",), b"2e\r\n" + LIST + b"XX0\r\n\r\n", 400),
    "line feed in a chunk's extension": (
        (b"transfer-encoding: chunked",),
        b"2e;a\nb\r\n" + LIST + b"\r\n0\r\n\r\n",
        400,
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_http_ends_the_connection_with_one_row(guarded, name) -> None:
    """A good token changes nothing, and what stands behind is not read: no second answer, no second row."""
    lines, body, status = MALFORMED[name]
    rows = len(guarded.rows())
    sent = _head(guarded, *lines) + body + SMUGGLED
    answer = guarded.assert_refused(lambda: _only(_exchange(guarded, sent)), status, "wire.http")
    assert answer.headers["connection"] == "close"
    assert len(guarded.rows()) == rows + 1
    row = guarded.row(answer.headers["x-postern-execution-id"])
    assert (row["server"], row["http_method"]) == ("a", "POST")


def _only(answers: list[Answer]) -> Answer:
    assert len(answers) == 1, answers
    return answers[0]


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"POST /a/mcp HTTP/2.0", 505),
        (b"POST /a/mcp?" + b"x" * 9000 + b" HTTP/1.1", 414),
        (b"POST http://evil.example/a/mcp HTTP/1.1", 400),
    ],
)
def test_malformed_request_lines_are_refused(guarded, line, status) -> None:
    sent = line + b"\r\nhost: 127.0.0.1:%d\r\n\r\n" % guarded.sidecar.port
    answer = _only(_exchange(guarded, sent + SMUGGLED))
    assert answer.status == status
    assert answer.headers["connection"] == "close"


def test_bytes_that_name_no_server_get_a_line_and_no_row(guarded) -> None:
    rows = len(guarded.rows())
    for data in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET /healthz HTTP/1.1\r\nx : y\r\n\r\n"):
        answer = _only(_exchange(guarded, data))
        assert answer.status == 400
        assert answer.headers["content-type"].startswith("text/plain")
    assert len(guarded.rows()) == rows


def test_good_requests_before_a_malformed_one_are_answered(guarded) -> None:
    """Each by itself: nothing of the second leaks into the first."""
    good = _head(guarded, b"content-length: %d" % len(LIST)) + LIST
    first, second = _exchange(guarded, good + _head(guarded, b"content-length: 3", b"content-length: 4") + b"abcd")
    assert (first.status, second.status) == (200, 400)
    assert guarded.row(first.headers["x-postern-execution-id"])["decision"] == "authz.allowed"
    assert guarded.row(second.headers["x-postern-execution-id"])["decision"] == "wire.http"


def test_upgrade_is_ignored_and_the_body_is_not(guarded) -> None:
    """As Java's HTTP client begins each conversation without TLS."""
    wish = (b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings: AAMAAABkAAQAoAAAAAIAAAAA")
    answer = _only(_exchange(guarded, _head(guarded, *wish, b"content-length: %d" % len(LIST)) + LIST))
    assert answer.status == 200
    assert re.search(rb'"name": ?"echo"', answer.body)
