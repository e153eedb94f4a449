"""Which era a request belongs to, and who lies about it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.era import CAPABILITIES_KEY, VERSION_KEY, Classification, Era, classify, without_removed
from proxy.wire.fault import WireFault
from proxy.wire.jsonrpc import Envelope, encode, parse_envelope

MODERN = "2026-07-28"
META = {VERSION_KEY: MODERN, CAPABILITIES_KEY: {}}


def message(meta: object = None, **members: Any) -> Envelope:
    params = {"_meta": meta} if meta is not None else {}
    found = parse_envelope(encode({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params, **members}))
    assert isinstance(found, Envelope)
    return found


def notification(meta: object = None) -> Envelope:
    params = {"_meta": meta} if meta is not None else {}
    found = parse_envelope(encode({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}))
    assert isinstance(found, Envelope)
    return found


RESPONSE = parse_envelope(b'{"jsonrpc":"2.0","id":1,"result":{}}')


def version(value: str) -> list[tuple[bytes, bytes]]:
    return [(b"accept", b"*/*"), (b"mcp-protocol-version", value.encode("latin-1"))]


def fault(headers: list[tuple[bytes, bytes]], envelope: Envelope | WireFault | None) -> WireFault:
    assert not isinstance(envelope, WireFault)
    found = classify(headers, envelope)
    assert isinstance(found, WireFault), found
    return found


@pytest.mark.parametrize("value", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
def test_a_handshake_version_is_legacy(value: str):
    assert classify(version(value), message()) == Classification(Era.LEGACY, value)
    assert classify(version(value), None) == Classification(Era.LEGACY, value)


def test_no_version_is_legacy():
    assert classify([], message()) == Classification(Era.LEGACY, None)
    assert classify([], None) == Classification(Era.LEGACY, None)


def test_legacy_clients_post_responses():
    assert isinstance(RESPONSE, Envelope)
    assert classify(version("2025-11-25"), RESPONSE) == Classification(Era.LEGACY, "2025-11-25")


def test_a_modern_request_is_modern():
    assert classify(version(MODERN), message(META)) == Classification(Era.MODERN, MODERN)
    assert classify(version(f" {MODERN}\t"), message(META)) == Classification(Era.MODERN, MODERN)
    assert classify(version(MODERN), None) == Classification(Era.MODERN, MODERN)


def test_a_modern_notification_needs_no_meta_but_must_not_contradict_its_header():
    assert classify(version(MODERN), notification()) == Classification(Era.MODERN, MODERN)
    assert classify(version(MODERN), notification(META)) == Classification(Era.MODERN, MODERN)
    assert fault(version(MODERN), notification({VERSION_KEY: "2025-11-25"})).jsonrpc_code == -32020


@pytest.mark.parametrize("headers", [[], version("2025-11-25")])
@pytest.mark.parametrize("meta", [META, {VERSION_KEY: "2025-11-25"}, {VERSION_KEY: None}])
def test_a_body_that_claims_a_version_under_a_legacy_header_is_refused(
    headers: list[tuple[bytes, bytes]], meta: dict[str, object]
):
    found = fault(headers, message(meta))

    assert (found.code, found.status, found.jsonrpc_code, found.id) == ("wire.era", 400, -32020, 1)


@pytest.mark.parametrize(
    "meta", [None, {}, {VERSION_KEY: MODERN}, {CAPABILITIES_KEY: {}}, [], "x", {**META, CAPABILITIES_KEY: 1}]
)
def test_a_modern_request_without_its_required_meta_is_refused(meta: object):
    found = fault(version(MODERN), message(meta))

    assert (found.code, found.status, found.jsonrpc_code, found.id) == ("wire.meta", 400, -32602, 1)


@pytest.mark.parametrize("claimed", ["2025-11-25", "2026-07-29", "", None, 20260728])
def test_a_header_that_differs_from_its_body_is_refused(claimed: object):
    found = fault(version(MODERN), message({**META, VERSION_KEY: claimed}))

    assert (found.code, found.jsonrpc_code, found.id) == ("wire.header_mismatch", -32020, 1)


@pytest.mark.parametrize("value", ["2027-01-01", "1999-01-01", "draft", "DRAFT-2026", ""])
def test_a_version_that_nobody_knows_is_named_with_those_that_are_supported(value: str):
    found = fault(version(value), message({**META, VERSION_KEY: value}))

    assert (found.code, found.status, found.jsonrpc_code, found.id) == ("wire.unsupported_version", 400, -32022, 1)
    assert found.data == {"supported": [MODERN], "requested": value}


@pytest.mark.parametrize(
    ("spoken", "told"),
    [
        (["2025-11-25"], ["2025-11-25"]),
        ([MODERN, "2025-11-25"], [MODERN, "2025-11-25"]),
        (["2025-06-18", "2031-01-01"], ["2025-06-18"]),
        (["2031-01-01"], [MODERN]),
    ],
)
def test_who_asks_for_an_unknown_version_is_told_what_the_server_speaks_and_we_let_pass(spoken, told):
    found = classify(version("2027-01-01"), message({**META, VERSION_KEY: "2027-01-01"}), spoken=spoken)

    assert isinstance(found, WireFault)
    assert found.data == {"supported": told, "requested": "2027-01-01"}


def test_disagreement_is_told_before_an_unknown_version():
    assert fault(version("1999-01-01"), message(META)).jsonrpc_code == -32020


def test_a_version_sent_twice_is_refused_even_where_both_agree():
    found = fault(version(MODERN) + version(MODERN), message(META))

    assert (found.code, found.jsonrpc_code, found.id) == ("wire.header_duplicate", -32020, 1)


def test_modern_clients_do_not_post_responses():
    found = fault(version(MODERN), RESPONSE)

    assert (found.code, found.jsonrpc_code) == ("wire.response", -32600)


@given(
    st.binary(max_size=20),
    st.dictionaries(st.sampled_from([VERSION_KEY, CAPABILITIES_KEY, "x"]), st.none() | st.text() | st.integers()),
)
def test_nothing_makes_it_raise_and_eras_never_mix(header: bytes, meta: dict[str, object]):
    found = classify([(b"mcp-protocol-version", header)], message(meta))

    if isinstance(found, Classification) and found.era is Era.LEGACY:
        assert VERSION_KEY not in meta


def test_a_modern_call_loses_the_task_that_its_protocol_has_removed_and_nothing_else():
    asked = message(method="tools/call", params={"name": "greet", "arguments": {"task": 1}, "task": {"ttl": 1}})
    passed = without_removed(asked, Era.MODERN)
    assert passed.params == {"name": "greet", "arguments": {"task": 1}}
    assert json.loads(passed.encoded())["params"] == passed.params
    assert asked.params is not None
    assert "task" in asked.params


def test_a_legacy_call_keeps_its_task_so_that_it_is_seen_and_refused():
    asked = message(method="tools/call", params={"name": "greet", "task": {"ttl": 1}})
    assert without_removed(asked, Era.LEGACY) is asked


def test_a_modern_message_without_one_stays_what_it_is():
    for asked in (message(), message(method="tasks/get", params={"taskId": "1", "task": {}})):
        assert without_removed(asked, Era.MODERN) is asked
