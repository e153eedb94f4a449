"""What a server's HTTP answer means: the JSON-RPC answer that is due, a bare status, or nothing that may pass."""

import json
from typing import Any

import pytest

from proxy.execution.ends import BrokenAnswerError
from proxy.execution.relay import (
    agreed_version,
    as_read,
    event_of,
    is_answer_to,
    is_question,
    message_of,
    reply_of,
    session_id_in,
)
from proxy.sessions.rebuild import is_lost
from proxy.wire.sse import SseEvent, SseParser

OK: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "result": {}}
ERROR: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "error": {"code": -1, "message": "no"}}


def body(message: Any) -> bytes:
    return json.dumps(message).encode()


@pytest.mark.parametrize(
    ("message", "rpc_id", "expected"),
    [
        (OK, 1, True),
        (ERROR, 1, True),
        (OK, "1", False),
        (OK, 2, False),
        (OK | {"id": True}, 1, False),
        (OK | {"id": None}, 1, False),
        (ERROR | {"id": None}, 1, True),
        (OK | {"error": {}}, 1, False),
        (ERROR | {"error": "text"}, 1, False),
        (OK | {"jsonrpc": "1.0"}, 1, False),
        (OK | {"method": "x"}, 1, False),
        ({"jsonrpc": "2.0", "id": 1}, 1, False),
    ],
)
def test_an_answer_is_one_to_this_request_and_well_formed(
    message: dict[str, Any], rpc_id: int | str, expected: bool
) -> None:
    assert is_answer_to(message, rpc_id) is expected


def test_an_answer_that_is_due_passes_untouched() -> None:
    reply = reply_of(200, body(OK), 1, is_json=True)
    assert (reply.status, reply.body, reply.message, reply.is_result) == (200, body(OK), OK, True)


@pytest.mark.parametrize("content", [b"", b"Accepted", body({"anything": 1})])
def test_what_comes_with_an_acknowledgement_is_dropped(content: bytes) -> None:
    reply = reply_of(202, content, None, is_json=False)
    assert (reply.status, reply.body, reply.is_result) == (202, b"", True)


@pytest.mark.parametrize("content", [body({"detail": "Not Found"}), b"<html>", b"{", body(OK), body([1])])
def test_an_http_error_without_json_rpc_is_a_bare_status(content: bytes) -> None:
    reply = reply_of(404, content, 1, is_json=True)
    assert (reply.status, reply.body, reply.message, reply.is_result) == (404, b"", None, False)


def test_an_http_error_with_json_rpc_passes() -> None:
    reply = reply_of(400, body(ERROR), 1, is_json=True)
    assert (reply.status, reply.message, reply.is_result) == (400, ERROR, False)


@pytest.mark.parametrize(
    ("status", "content", "is_json"),
    [
        (200, body(OK), False),
        (200, b"", True),
        (200, b"{", True),
        (200, body([OK]), True),
        (200, body(OK | {"id": 2}), True),
        (200, b'{"jsonrpc":"2.0","id":1,"result":NaN}', True),
        (202, b"", False),
        (307, b"", False),
    ],
)
def test_anything_else_is_broken(status: int, content: bytes, is_json: bool) -> None:
    with pytest.raises(BrokenAnswerError):
        reply_of(status, content, 1, is_json=is_json)


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (404, None, True),
        (404, {"code": -32600, "message": "Session not found"}, True),
        (404, {"code": -32601, "message": "Method not found"}, False),
        (400, {"code": -32000, "message": "Bad Request: No valid session ID provided"}, True),
        (400, {"code": -32000, "message": "Bad Request: Server not initialized"}, True),
        (400, {"code": -32000, "message": "Unsupported protocol version"}, False),
        (400, {"code": -32602, "message": "session"}, False),
        (400, None, False),
        (200, {"code": -32000, "message": "session"}, False),
    ],
)
def test_which_answers_say_that_a_session_is_lost(status: int, error: dict[str, Any] | None, expected: bool) -> None:
    assert is_lost(status, {"error": error} if error else None) is expected


@pytest.mark.parametrize("value", [b"", b"with space", b"\x7f", "é".encode(), b"x" * 1025])
def test_a_session_id_is_visible_ascii(value: bytes) -> None:
    with pytest.raises(BrokenAnswerError):
        session_id_in([(b"mcp-session-id", value)])


def test_a_server_without_sessions_has_no_id() -> None:
    assert session_id_in([(b"content-type", b"x")]) is None
    assert session_id_in([(b"mcp-session-id", b"abc")]) == "abc"


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (SseEvent(b"", data=json.dumps(OK)), OK),
        (SseEvent(b"", event="message", data=json.dumps(OK)), OK),
        (SseEvent(b"", event="ping", data="x"), None),
        (SseEvent(b"", id="1"), None),
        (SseEvent(b""), None),
    ],
)
def test_which_events_carry_a_message(event: SseEvent, expected: dict[str, Any] | None) -> None:
    assert message_of(event) == expected


def test_a_question_has_a_method_and_an_id() -> None:
    assert is_question({"method": "ping", "id": 1})
    assert not is_question({"method": "notifications/x"})
    assert not is_question(OK)


SAME = [b'{"jsonrpc":"2.0","id":1,"result":{}}', b' { "id": 1, "result": { } , "jsonrpc": "2.0"}\n', body(ERROR)]
TWICE = [
    b'{"jsonrpc":"2.0","id":1,"result":{"a":"first"},"result":{}}',
    b'{"jsonrpc":"2.0","id":1,"result":{},"Result":{"a":1}}',
    b'{"jsonrpc":"2.0","id":1,"result":{},"resu\\u006ct":{}}',
]


@pytest.mark.parametrize("raw", SAME)
def test_what_everybody_reads_alike_passes_as_it_came(raw: bytes) -> None:
    message = json.loads(raw)
    assert as_read(message, raw) is message
    event = SseEvent(b"data: " + raw, data=raw.decode())
    assert event_of(event, message) == (event, message)


@pytest.mark.parametrize("raw", TWICE)
def test_what_parsers_read_in_two_ways_passes_as_it_was_read(raw: bytes) -> None:
    reply = reply_of(200, raw, 1, is_json=True)
    assert (reply.body, reply.whole, reply.message) == (SAME[0], raw, OK)
    event, message = event_of(SseEvent(b"", event="message", data=raw.decode(), id="e", retry=5), json.loads(raw))
    assert (event.data, message) == (SAME[0].decode(), OK)
    assert event.raw == b"event: message\nid: e\nretry: 5\ndata: " + SAME[0] + b"\n\n"


@pytest.mark.parametrize(
    "event",
    [
        SseEvent(b"", data=json.dumps(OK | {"method": "ping"})),
        SseEvent(b"", data=json.dumps(ERROR | {"method": None})),
        SseEvent(b"", event="answer", data=json.dumps(OK)),
        SseEvent(b"", event="answer", data=json.dumps([OK])),
    ],
)
def test_what_a_client_might_take_for_an_answer_does_not_pass(event: SseEvent) -> None:
    with pytest.raises(BrokenAnswerError):
        message_of(event)


@pytest.mark.parametrize("data", ["", "ping", "{", "{}", "[1]"])
def test_an_event_of_another_kind_without_a_message_passes(data: str) -> None:
    assert message_of(SseEvent(b"", event="ping", data=data)) is None


@pytest.mark.parametrize(
    ("result", "asked", "version"),
    [
        ({"protocolVersion": "2025-11-25"}, "2025-03-26", "2025-11-25"),
        ({}, "2025-03-26", "2025-03-26"),
        ([], "2025-03-26", "2025-03-26"),
    ],
)
def test_the_version_is_what_the_server_names_or_the_client_asked_for(result: Any, asked: Any, version: str) -> None:
    assert agreed_version(OK | {"result": result}, {"protocolVersion": asked}) == version


@pytest.mark.parametrize("named", ["2025\0", "2025\r\nx: y", "\u2028", "x" * 33, {"a": 1}, 5])
def test_a_version_that_no_header_or_row_could_hold_is_a_broken_answer(named: Any) -> None:
    with pytest.raises(BrokenAnswerError):
        agreed_version(OK | {"result": {"protocolVersion": named}}, {"protocolVersion": "2025-11-25"})


HIDDEN = json.dumps(OK)


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"])
def test_nothing_hides_behind_what_ends_a_line_for_some_clients(end: str) -> None:
    """As httpx-sse did before 0.4.2, which the official Python client of the first generation came with."""
    hiding = f"{end}{end}data: {HIDDEN}{end}{end}"
    for stream in (f": {hiding}\n\n", f"event: ping\ndata: {hiding}\n\n", f"id: 1\nretry: 5\nfoo: {hiding}\n\n"):
        (event,) = SseParser(9_999).feed(stream.encode())[:1]
        with pytest.raises(BrokenAnswerError):
            message_of(event)
    (event,) = SseParser(9_999).feed(f"foo: {hiding}\ndata: {HIDDEN}\n\n".encode())
    assert event_of(event, OK)[0].raw == b"data: " + SAME[0] + b"\n\n"
    (event,) = SseParser(9_999).feed(f"id: {hiding}\ndata: {HIDDEN}\n\n".encode())
    with pytest.raises(BrokenAnswerError):
        event_of(event, OK)


def test_a_separator_in_the_text_of_a_message_passes() -> None:
    message = OK | {"result": {"text": "a\u2028b"}}
    (event,) = SseParser(9_999).feed(b"data: " + json.dumps(message, ensure_ascii=False).encode() + b"\n\n")
    passed, read = event_of(event, message_of(event) or {})
    assert (json.loads(passed.data), read) == (message, message)
