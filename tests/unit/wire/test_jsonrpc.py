"""One strict message out of any bytes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.jsonrpc import Envelope, EnvelopeKind, WireFault, encode, parse_envelope


def body(**members: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **members}).encode()


def envelope(raw: bytes) -> Envelope:
    found = parse_envelope(raw)
    assert isinstance(found, Envelope), found
    return found


def fault(raw: bytes, **limits: int) -> WireFault:
    found = parse_envelope(raw, **limits)
    assert isinstance(found, WireFault), found
    return found


def test_a_request_is_read():
    found = envelope(body(id=7, method="tools/call", params={"name": "echo", "arguments": {"a": [1]}}))

    assert (found.kind, found.id, found.method) == (EnvelopeKind.REQUEST, 7, "tools/call")
    assert found.params == {"name": "echo", "arguments": {"a": [1]}}
    assert found.message["params"] is found.params


def test_a_notification_is_read():
    found = envelope(body(method="notifications/initialized"))

    assert (found.kind, found.id, found.params) == (EnvelopeKind.NOTIFICATION, None, None)


@pytest.mark.parametrize("outcome", [{"result": {"roots": []}}, {"error": {"code": -1, "message": "no"}}])
def test_a_response_is_read(outcome: dict[str, Any]):
    found = envelope(body(id="a", **outcome))

    assert (found.kind, found.id, found.method) == (EnvelopeKind.RESPONSE, "a", None)
    assert found.message == {"jsonrpc": "2.0", "id": "a", **outcome}


@pytest.mark.parametrize("rpc_id", [0, -1, 2**63, 2**70, "", "x" * 256, "0"])
def test_ids_keep_value_and_type(rpc_id: int | str):
    found = envelope(body(id=rpc_id, method="ping"))

    assert found.id == rpc_id
    assert type(found.id) is type(rpc_id)


def test_integers_of_any_size_and_text_of_any_script_survive_the_rewrite():
    arguments = {"big": 2**200, "small": -(2**200), "text": 'é\u2028\U0001f600\x00"\\', "e": 1e300, "z": -0.0}
    found = envelope(body(id=1, method="tools/call", params={"arguments": arguments}))

    assert json.loads(found.encoded())["params"]["arguments"] == arguments
    assert str(2**200).encode() in found.encoded()


def test_unknown_top_level_keys_are_dropped():
    found = envelope(b'{"jsonrpc":"2.0","id":1,"method":"ping","extra":{"method":"x"},"_meta":{}}')

    assert found.encoded() == b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


def test_escaped_keys_are_the_keys_they_spell():
    assert envelope(b'{"jsonrpc":"2.0","id":1,"\\u006dethod":"ping"}').method == "ping"


def test_new_parameters_make_a_new_message():
    found = envelope(body(id=1, method="tools/call", params={"name": "a"}))
    changed = found.with_params({"name": "b"})

    assert json.loads(changed.encoded())["params"] == {"name": "b"}
    assert json.loads(found.encoded())["params"] == {"name": "a"}


PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "wire.json"),
        (b"{", "wire.json"),
        (PING + b"x", "wire.json"),
        (PING + PING, "wire.json"),
        (PING[:-1] + b",}", "wire.json"),
        (b"/**/" + PING, "wire.json"),
        (b"{'jsonrpc':'2.0'}", "wire.json"),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":NaN}}', "wire.json"),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":-Infinity}}', "wire.json"),
        (b'{"jsonrpc":"2.0","id":01,"method":"ping"}', "wire.json"),
        (b'{"jsonrpc":"2.0","id":1,"method":"a\nb"}', "wire.json"),
        (b'{"jsonrpc":"2.0","id":"\\ud800","method":"ping"}', "wire.json"),
        (b'{"jsonrpc":"2.0","id":"\\ud800\\u0041","method":"ping"}', "wire.json"),
        (b"\x1f\x8b\x08\x00", "wire.json"),
        (b"\xef\xbb\xbf" + PING, "wire.encoding"),
        (PING.decode().encode("utf-16"), "wire.encoding"),
        (PING.decode().encode("utf-16-le"), "wire.encoding"),
        (PING.decode().encode("utf-16-be"), "wire.encoding"),
        (PING.decode().encode("utf-32"), "wire.encoding"),
        (b'{"jsonrpc":"2.0","id":"\xff","method":"ping"}', "wire.encoding"),
        (b'{"jsonrpc":"2.0","id":"\xed\xa0\x80","method":"ping"}', "wire.encoding"),
        (b'{"jsonrpc":"2.0","id":"\xc0\xaf","method":"ping"}', "wire.encoding"),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":1e999}}', "wire.number"),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":' + b"9" * 5000 + b"}}", "wire.number"),
    ],
)
def test_what_is_not_one_utf8_json_text_is_a_parse_error(raw: bytes, code: str):
    found = fault(raw)

    assert (found.code, found.status, found.jsonrpc_code, found.id) == (code, 400, -32700, None)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"[]", "wire.batch"),
        (b"[" + PING + b"]", "wire.batch"),
        (b'"ping"', "wire.not_object"),
        (b"null", "wire.not_object"),
        (b"1", "wire.not_object"),
    ],
)
def test_what_is_not_one_object_is_invalid(raw: bytes, code: str):
    found = fault(raw)

    assert (found.code, found.status, found.jsonrpc_code) == (code, 400, -32600)


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({}, "wire.mixed"),
        ({"method": "ping", "result": {}}, "wire.mixed"),
        ({"method": "ping", "error": {}}, "wire.mixed"),
        ({"result": {}, "error": {}}, "wire.mixed"),
        ({"result": {}, "params": {}}, "wire.mixed"),
        ({"result": 1}, "wire.response"),
        ({"error": None}, "wire.response"),
        ({"method": 5}, "wire.method_name"),
        ({"method": ""}, "wire.method_name"),
        ({"method": "a\nb"}, "wire.method_name"),
        ({"method": "x" * 129}, "wire.method_name"),
        ({"method": "ping", "params": []}, "wire.params"),
        ({"method": "ping", "params": None}, "wire.params"),
        ({"method": "ping", "params": "x"}, "wire.params"),
        ({"method": "ping", "jsonrpc": "1.0"}, "wire.version"),
        ({"method": "ping", "jsonrpc": 2.0}, "wire.version"),
        ({"Method": "ping", "method": "tools/call"}, "wire.key_case"),
        ({"METHOD": "ping"}, "wire.key_case"),
        ({"method": "ping", "Params": {}}, "wire.key_case"),
        ({"method": "ping", "re\u017fult": {}}, "wire.key_case"),
        ({"method": "tools/call", "params": {"name": "a", "Name": "b"}}, "wire.key_case"),
        ({"method": "tools/call", "params": {"NAME": "b"}}, "wire.key_case"),
        ({"method": "tools/call", "params": {"name": "a", "Arguments": {}}}, "wire.key_case"),
        ({"method": "resources/read", "params": {"uri": "a", "Uri": "b"}}, "wire.key_case"),
        ({"method": "tasks/get", "params": {"taskId": "a", "ta\u017f\u212aid": "b"}}, "wire.key_case"),
        ({"method": "ping", "params": {"_META": {}}}, "wire.key_case"),
        ({"method": "ping", "params": {"_meta": {"io.modelcontextprotocol/ProtocolVersion": "x"}}}, "wire.key_case"),
        ({"method": "completion/complete", "params": {"ref": {"name": "a", "Name": "b"}}}, "wire.key_case"),
        ({"method": "subscriptions/listen", "params": {"notifications": {"TaskIds": []}}}, "wire.key_case"),
    ],
)
def test_a_message_of_the_wrong_shape_is_refused_with_its_id(members: dict[str, Any], code: str):
    found = fault(
        body(id="me", **members) if "jsonrpc" not in members else json.dumps({"id": "me", **members}).encode()
    )

    assert (found.code, found.status, found.jsonrpc_code, found.id) == (code, 400, -32600, "me")


def test_a_message_without_version_is_refused():
    assert fault(b'{"id":1,"method":"ping"}').code == "wire.version"


@pytest.mark.parametrize(
    "rpc_id", ["null", "true", "false", "7.0", "1e2", "-0.0", "[]", "{}", '"' + "x" * 257 + '"', "9" * 200]
)
def test_an_id_that_is_no_string_or_integer_of_bounded_length_is_refused_and_not_echoed(rpc_id: str):
    found = fault(b'{"jsonrpc":"2.0","method":"ping","id":%s}' % rpc_id.encode())

    assert (found.code, found.id) == ("wire.id", None)


@pytest.mark.parametrize("members", [{"method": "tools/call"}, {"method": "ping"}, {"result": {}}])
def test_only_notifications_have_no_id(members: dict[str, Any]):
    assert fault(body(**members)).code == "wire.id"


@pytest.mark.parametrize(
    "raw",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","\\u006dethod":"tools/call"}',
        b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{"x":[{"k":1,"k":2}]}}}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","dropped":{"a":1,"a":2}}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"\\\\\\"":1,"\\\\\\"":2}}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"":1,"":{}}}',
    ],
)
def test_a_key_written_twice_is_refused_at_any_depth(raw: bytes):
    assert fault(raw).code == "wire.duplicate_key"


def test_text_that_looks_like_members_is_no_duplicate():
    text = '{"a":1,"a":2}\\":" : "\\'
    found = envelope(body(id=1, method="tools/call", params={"arguments": {"a": text, 'a":"': text, ":": ":"}}))

    assert found.params is not None
    assert found.params["arguments"]["a"] == text


def test_arguments_belong_to_the_tool_and_may_differ_by_case():
    envelope(body(id=1, method="tools/call", params={"name": "x", "arguments": {"a": 1, "A": 2, "Name": 3, "name": 4}}))


@pytest.mark.parametrize("brackets", [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_is_counted_exactly(brackets: tuple[bytes, bytes]):
    def nested(depth: int) -> bytes:
        inner = brackets[0] * depth + b"1" + brackets[1] * depth
        return b'{"jsonrpc":"2.0","id":3,"method":"ping","params":{"a":%s,"b":[[],[]]}}' % inner

    assert isinstance(parse_envelope(nested(8), max_depth=10), Envelope)
    found = fault(nested(9), max_depth=10)
    assert (found.code, found.id) == ("wire.depth", 3)


@pytest.mark.parametrize("count", [1000, 100_000, 1_000_000])
def test_absurd_depth_is_a_fault_and_not_a_crash(count: int):
    assert fault(
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":' + b"[" * count + b"]" * count + b"}}"
    ).code == ("wire.depth")


def test_a_body_over_the_limit_is_not_read():
    found = fault(b" " * 11, max_bytes=10)

    assert (found.code, found.status) == ("wire.size", 413)


@given(st.binary(max_size=200))
def test_no_bytes_make_it_raise(raw: bytes):
    assert isinstance(parse_envelope(raw), Envelope | WireFault)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_no_json_makes_it_raise(value: object):
    assert isinstance(parse_envelope(json.dumps(value).encode()), Envelope | WireFault)


@given(st.dictionaries(st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error", "x"]), JSON_VALUES))
def test_no_envelope_makes_it_raise(members: dict[str, object]):
    found = parse_envelope(json.dumps({"jsonrpc": "2.0", **members}).encode())

    assert isinstance(found, Envelope | WireFault)


@given(st.dictionaries(st.text(), JSON_VALUES, max_size=4), st.booleans())
def test_what_is_forwarded_reads_like_what_was_sent(arguments: dict[str, object], ascii_only: bool):
    sent = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t", "arguments": arguments}}
    found = envelope(json.dumps(sent, ensure_ascii=ascii_only, indent=1).encode())

    assert json.loads(found.encoded()) == sent
    again = envelope(found.encoded())
    assert again == found
    assert encode(again.message) == found.encoded()


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "A", '"', "\\", ":", "é"]), JSON_VALUES), max_size=4), st.booleans()
)
def test_duplicates_are_found_exactly_where_there_are_some(pairs: list[tuple[str, object]], ascii_only: bool):
    members = ",".join(f"{json.dumps(key, ensure_ascii=ascii_only)}: {json.dumps(value)}" for key, value in pairs)
    found = parse_envelope(
        f'{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"arguments":{{{members}}}}}}}'.encode()
    )

    keys = [key for key, _ in pairs]
    assert isinstance(found, Envelope) == (len(keys) == len(set(keys)))
