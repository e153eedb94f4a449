"""Headers against the body, and what may pass either way."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.era import Era
from proxy.wire.fault import WireFault
from proxy.wire.header_value import decode_value, encode_value
from proxy.wire.headers import Header, check_headers, to_client, to_upstream
from proxy.wire.jsonrpc import Envelope, encode, parse_envelope
from proxy.wire.params import declared_params

JSON = (b"content-type", b"application/json")


def request(method: str, **params: Any) -> Envelope:
    found = parse_envelope(encode({"jsonrpc": "2.0", "id": 9, "method": method, "params": params}))
    assert isinstance(found, Envelope)
    return found


def notification() -> Envelope:
    found = parse_envelope(b'{"jsonrpc":"2.0","method":"notifications/cancelled"}')
    assert isinstance(found, Envelope)
    return found


def mirrored(method: str | bytes | None, *names: str | bytes) -> list[Header]:
    lines: list[Header] = [JSON]
    if method is not None:
        lines.append((b"mcp-method", method.encode() if isinstance(method, str) else method))
    return lines + [(b"mcp-name", name.encode() if isinstance(name, str) else name) for name in names]


def fault(headers: list[Header], envelope: Envelope) -> WireFault:
    found = check_headers(headers, envelope, Era.MODERN)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("headers", "envelope"),
    [
        (mirrored("tools/call", "echo"), request("tools/call", name="echo")),
        (mirrored("prompts/get", "p"), request("prompts/get", name="p")),
        (mirrored("resources/read", "file:///a"), request("resources/read", uri="file:///a", name="other")),
        (mirrored("tasks/get", "t1"), request("tasks/get", taskId="t1")),
        (mirrored("tools/call", " echo\t"), request("tools/call", name="echo")),
        (mirrored("tools/call", "=?base64?w6k=?="), request("tools/call", name="é")),
        (mirrored("tools/call", "=?base64?ZWNobw==?="), request("tools/call", name="echo")),
        (mirrored("tools/call", ""), request("tools/call", name="")),
        (mirrored("tools/call"), request("tools/call")),
        (mirrored("tools/list"), request("tools/list")),
        (mirrored(None), notification()),
        (mirrored("notifications/cancelled"), notification()),
    ],
)
def test_headers_that_say_what_the_body_says_pass(headers: list[Header], envelope: Envelope):
    assert check_headers(headers, envelope, Era.MODERN) is None


@pytest.mark.parametrize(
    ("headers", "envelope", "code"),
    [
        (mirrored(None), request("tools/list"), "wire.header_missing"),
        (mirrored("tools/list"), request("tools/call"), "wire.header_mismatch"),
        (mirrored("Tools/List"), request("tools/list"), "wire.header_mismatch"),
        (mirrored("=?base64?dG9vbHMvbGlzdA==?="), request("tools/list"), "wire.header_mismatch"),
        (mirrored(b"tools/list\xe9"), request("tools/list"), "wire.header_mismatch"),
        (mirrored("tools/list") + mirrored("tools/list")[1:], request("tools/list"), "wire.header_duplicate"),
        (mirrored("tools/list"), notification(), "wire.header_mismatch"),
        (mirrored("tools/call"), request("tools/call", name="echo"), "wire.header_missing"),
        (mirrored("tools/call", "other"), request("tools/call", name="echo"), "wire.header_mismatch"),
        (mirrored("tools/call", "Echo"), request("tools/call", name="echo"), "wire.header_mismatch"),
        (mirrored("tools/call", "echo", "echo"), request("tools/call", name="echo"), "wire.header_duplicate"),
        (mirrored("tools/call", "echo"), request("tools/call"), "wire.header_mismatch"),
        (mirrored("tools/call", "5"), request("tools/call", name=5), "wire.header_mismatch"),
        (mirrored("tools/call", "True"), request("tools/call", name=True), "wire.header_mismatch"),
        (mirrored("tools/list", "echo"), request("tools/list"), "wire.header_mismatch"),
        (mirrored("resources/read", "x"), request("resources/read", name="x"), "wire.header_mismatch"),
        (mirrored("tasks/cancel"), request("tasks/cancel", taskId="t"), "wire.header_missing"),
        (mirrored("tasks/update", "u"), request("tasks/update", taskId="t"), "wire.header_mismatch"),
        (mirrored("tools/call", "=?base64?ZWNobw?="), request("tools/call", name="echo"), "wire.header_mismatch"),
        (mirrored("tools/call", "=?base64?ZWNobx==?="), request("tools/call", name="echo"), "wire.header_mismatch"),
        (mirrored("tools/call", "=?BASE64?ZWNobw==?="), request("tools/call", name="echo"), "wire.header_mismatch"),
        (mirrored("tools/call", "=?base64?/w==?="), request("tools/call", name="ÿ"), "wire.header_mismatch"),
        (mirrored("tools/call", "é".encode()), request("tools/call", name="é"), "wire.header_mismatch"),
        (mirrored("tools/call", "é".encode("latin-1")), request("tools/call", name="é"), "wire.header_mismatch"),
        (
            [*mirrored("tools/list"), (b"mcp-param-a", b"1"), (b"mcp-param-a", b"1")],
            request("tools/list"),
            "wire.header_mismatch",
        ),
    ],
)
def test_headers_that_say_anything_else_are_refused_with_the_id(headers: list[Header], envelope: Envelope, code: str):
    found = fault(headers, envelope)

    assert (found.code, found.status, found.jsonrpc_code, found.id) == (code, 400, -32020, envelope.id)


def test_legacy_requests_have_no_mirrored_headers_to_check():
    assert check_headers(mirrored("x", "y"), request("tools/call", name="echo"), Era.LEGACY) is None


@pytest.mark.parametrize("era", list(Era))
@pytest.mark.parametrize(
    "value",
    [
        b"text/plain",
        b"",
        b"application/jsonx",
        b"application/json; charset=utf-16",
        b"application/json, text/plain",
        None,
    ],
)
def test_another_content_type_is_refused(era: Era, value: bytes | None):
    headers = [(b"content-type", value)] if value is not None else []
    found = check_headers(headers, request("ping"), era)

    assert found is not None
    assert (found.code, found.status, found.id) == ("wire.content_type", 415, 9)


@pytest.mark.parametrize(
    "value", [b"application/json", b"Application/JSON;charset=UTF-8", b'application/json ; charset="utf-8"']
)
def test_json_by_any_spelling_is_accepted(value: bytes):
    assert check_headers([(b"content-type", value)], request("ping"), Era.LEGACY) is None


def test_a_compressed_body_is_refused():
    found = check_headers([JSON, (b"content-encoding", b"gzip")], request("ping"), Era.LEGACY)

    assert found is not None
    assert (found.code, found.status) == ("wire.content_encoding", 415)


SCHEMA = {"properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}


def test_mirrored_arguments_are_checked_where_the_schema_is_known():
    envelope = request("tools/call", name="t", arguments={"region": "eu"})
    declared = declared_params(SCHEMA)
    right = [*mirrored("tools/call", "t"), (b"mcp-param-region", b"eu")]
    wrong = [*mirrored("tools/call", "t"), (b"mcp-param-region", b"us")]

    assert check_headers(right, envelope, Era.MODERN, declared) is None
    assert check_headers(wrong, envelope, Era.MODERN) is None
    found = check_headers(wrong, envelope, Era.MODERN, declared)
    assert found is not None
    assert (found.code, found.jsonrpc_code, found.id) == ("wire.header_mismatch", -32020, 9)


@given(st.text())
def test_any_text_survives_the_header(text: str):
    assert decode_value(encode_value(text)) == text
    assert all(0x20 <= byte <= 0x7E for byte in encode_value(text))


@given(st.binary())
def test_any_bytes_decode_to_text_or_nothing(raw: bytes):
    assert isinstance(decode_value(raw), str | None)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"mcp-method", b"mcp-name", b"mcp-param-x", b"content-type"]), st.binary(max_size=12)
        )
    )
)
def test_no_headers_make_it_raise(headers: list[Header]):
    assert isinstance(check_headers([JSON, *headers], request("tools/call", name="x"), Era.MODERN), WireFault | None)


NEVER_UPSTREAM = [
    b"authorization",
    b"cookie",
    b"host",
    b"content-length",
    b"transfer-encoding",
    b"connection",
    b"keep-alive",
    b"te",
    b"trailer",
    b"upgrade",
    b"proxy-authorization",
    b"proxy-connection",
    b"forwarded",
    b"via",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-real-ip",
    b"x-proxy-verified",
    b"x-user-id",
    b"x-user-permissions",
    b"x-api-key",
    b"dpop",
    b"signature",
    b"signature-input",
    b"origin",
    b"referer",
    b"accept-encoding",
    b"content-encoding",
    b"expect",
    b"mcp-session-id",
    b"x-postern-bridge",
    b"x_user_id",
    b"sec-fetch-site",
]


@pytest.mark.parametrize("era", list(Era))
@pytest.mark.parametrize("name", NEVER_UPSTREAM)
def test_what_is_between_the_client_and_us_stays_here(name: bytes, era: Era):
    assert to_upstream([(name, b"x"), (b"accept", b"*/*")], era) == [(b"accept", b"*/*")]


def test_a_modern_request_takes_its_headers_along_in_order():
    headers = [
        (b"accept", b"application/json, text/event-stream"),
        (b"content-type", b"application/json; charset=utf-8"),
        (b"mcp-protocol-version", b"2026-07-28"),
        (b"mcp-method", b"tools/call"),
        (b"mcp-name", b"echo"),
        (b"mcp-param-unknown", b"x"),
        (b"last-event-id", b"5"),
        (b"traceparent", b"00-1-2-01"),
        (b"user-agent", b"client"),
    ]

    passed = to_upstream(headers, Era.MODERN)

    assert passed == [
        (name, b"application/json" if name == b"content-type" else value)
        for name, value in headers
        if name != b"last-event-id"
    ]


def test_a_legacy_request_takes_no_modern_header_and_no_event_id_of_ours_along():
    headers = [(b"last-event-id", b"5"), (b"mcp-method", b"x"), (b"mcp-name", b"x"), (b"mcp-param-a", b"x")]

    assert to_upstream([*headers, (b"accept", b"*/*")], Era.LEGACY) == [(b"accept", b"*/*")]


def test_what_connection_names_is_hop_by_hop():
    headers = [
        (b"connection", b"close, User-Agent"),
        (b"connection", b"traceparent"),
        (b"user-agent", b"x"),
        (b"traceparent", b"y"),
    ]

    assert to_upstream(headers, Era.MODERN) == []
    assert to_client(((b"connection", b"retry-after"), (b"retry-after", b"5"))) == ()


@pytest.mark.parametrize(
    "name",
    [
        b"set-cookie",
        b"www-authenticate",
        b"server",
        b"date",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"keep-alive",
        b"location",
        b"mcp-session-id",
        b"access-control-allow-origin",
        b"strict-transport-security",
        b"x-user-id",
        b"x-postern-execution-id",
        b"alt-svc",
        b"link",
    ],
)
def test_what_is_between_us_and_the_upstream_stays_here(name: bytes):
    assert to_client(((name, b"x"), JSON)) == (JSON,)


def test_an_answer_keeps_what_the_client_needs():
    headers = [
        (b"content-type", b"text/event-stream"),
        (b"cache-control", b"no-cache, no-transform"),
        (b"x-accel-buffering", b"no"),
        (b"retry-after", b"3"),
        (b"allow", b"POST"),
    ]

    assert to_client(tuple(headers)) == tuple(headers)


@pytest.mark.parametrize("value", [b"public, max-age=600", b"max-age=60", b"no-cache, s-maxage=9", b""])
def test_caching_that_widens_the_audience_is_dropped(value: bytes):
    assert to_client(((b"cache-control", value),)) == ()


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"application/json; charset=utf-8", b"application/json; charset=utf-8"),
        (b'application/json;charset="UTF-8"', b'application/json;charset="UTF-8"'),
        (b"application/json; profile=x", b"application/json; profile=x"),
        (b"application/json; charset=utf-7", b"application/json"),
        (b"text/event-stream ;Charset=UTF-16LE", b"text/event-stream"),
        (b"application/json; charset=utf-8; charset=utf-7", b"application/json"),
        (b"application/json; charset=utf-7; charset=utf-8", b"application/json"),
    ],
)
def test_no_client_reads_an_answer_in_another_encoding_than_we_did(sent: bytes, told: bytes):
    assert to_client(((b"content-type", sent),)) == ((b"content-type", told),)


def test_an_answer_has_the_content_type_that_it_was_read_by():
    both = (JSON, (b"content-type", b"text/event-stream"))

    assert to_client(both) == (JSON,)
    assert to_client(both[::-1]) == both[1:]
