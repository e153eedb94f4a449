"""SEC-17 … SEC-21: what two parsers could read differently is refused, and what is forwarded is what was authorized."""

import json
from typing import Any

import pytest

from tests.security.conftest import send_pairs
from tests.sidecar import META, MODERN

LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
CALL: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {}}}


def _token(guarded) -> str:
    return guarded.sidecar.token("a", "a:use a:read")


def _refused(guarded, body: bytes, **headers: str):
    """Any wire refusal will do; the server must have seen nothing and the row must be there."""
    before = len(guarded.recorder.seen)
    answer = guarded.sidecar.post("a", body, _token(guarded), **headers)
    assert answer.status in {400, 413, 415}, (answer.status, answer.body)
    code = answer.json()["error"]["data"]["code"]
    assert code.startswith(("wire.", "limit.")), code
    row = guarded.row(answer.headers["x-postern-execution-id"])
    assert (row["status"], row["decision"]) == ("denied", code)
    assert len(guarded.recorder.seen) == before
    return answer


@pytest.mark.parametrize(
    "body", [b"[]", json.dumps([LIST]).encode(), json.dumps([LIST, CALL]).encode(), b' \n[{"jsonrpc":"2.0"}]']
)
def test_sec17_batches_are_refused(guarded, body) -> None:
    _refused(guarded, body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b'"x"',
        b"7",
        b"{",
        b"{}",
        json.dumps(LIST).encode() + b"{}",
        json.dumps(LIST).encode() + b"garbage",
        b"\xef\xbb\xbf" + json.dumps(LIST).encode(),
        json.dumps(LIST).encode("utf-16"),
        json.dumps(LIST).encode("utf-16-le"),
        json.dumps(LIST).encode("utf-32"),
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":NaN}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":Infinity}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":-Infinity}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":"\\ud800"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":"\xff"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call"}',
        b'{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/list"}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","\\u006dethod":"tools/call"}',
        b'{"jsonrpc":"2.0","id":1.0,"method":"tools/list"}',
        b'{"jsonrpc":"2.0","id":1e2,"method":"tools/list"}',
        b'{"jsonrpc":"2.0","id":null,"method":"tools/list"}',
        b'{"jsonrpc":"2.0","id":true,"method":"tools/list"}',
        b'{"jsonrpc":"2.0","id":[1],"method":"tools/list"}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","result":{}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","error":{}}',
        b'{"jsonrpc":"2.0","id":1,"Method":"tools/call","method":"tools/list"}',
        b'{"jsonrpc":"1.0","id":1,"method":"tools/list"}',
        b'{"id":1,"method":"tools/list"}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":[]}',
        b'{"jsonrpc":"2.0","id":1,"method":7}',
    ],
)
def test_sec18_ambiguous_documents_are_refused(guarded, body) -> None:
    _refused(guarded, body)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        (b'{"name":"echo","name":"secret","arguments":{}}', "wire.duplicate_key"),
        (b'{"name":"echo","\\u006eame":"secret","arguments":{}}', "wire.duplicate_key"),
        (b'{"name":"echo","arguments":{"a":{"x":1,"x":2}}}', "wire.duplicate_key"),
        (b'{"name":"echo","Name":"secret","arguments":{}}', "wire.key_case"),
    ],
)
def test_sec18_a_second_name_is_refused(guarded, params, code) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":' + params + b"}"
    guarded.assert_refused(lambda: guarded.sidecar.post("a", body, _token(guarded)), 400, code)


def test_sec18_compressed_body_is_refused(guarded) -> None:
    import gzip

    _refused(guarded, gzip.compress(json.dumps(LIST).encode()), content_encoding="gzip")


def test_sec18_wrong_content_type_is_refused(guarded) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        _refused(guarded, json.dumps(LIST).encode(), content_type=kind)


def test_sec18_integers_of_any_size_arrive_intact(guarded) -> None:
    big = 2**200 + 1
    message = {**CALL, "params": {"name": "echo", "arguments": {"n": big, "m": -(2**63) - 1}}}
    answer = guarded.sidecar.post("a", message, _token(guarded))
    assert answer.status == 200
    assert guarded.recorder.bodies[-1]["params"]["arguments"] == {"n": big, "m": -(2**63) - 1}


def test_sec18_escapes_are_resolved_before_the_decision(guarded) -> None:
    """`\\u0065cho` is `echo`: allowed, and the server gets the plain name."""
    body = b'{"jsonrpc":"2.0","id":1,"\\u006dethod":"tools\\/call","params":{"name":"\\u0065cho","arguments":{}}}'
    assert guarded.sidecar.post("a", body, _token(guarded)).status == 200
    _, _, seen = guarded.recorder.seen[-1]
    assert b'"method":"tools/call"' in seen
    assert b'"name":"echo"' in seen


MIRROR = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "echo"}


@pytest.mark.parametrize(
    "changed",
    [
        {"mcp_name": "secret"},
        {"mcp_name": "Echo"},
        {"mcp_method": "tools/list"},
        {"mcp_method": "TOOLS/CALL"},
        {"mcp_name": None},
        {"mcp_method": None},
        {"mcp_name": "=?base64?c2VjcmV0?="},
        {"mcp_name": "=?base64?%%%?="},
        {"mcp_protocol_version": None},
        {"mcp_protocol_version": "2025-11-25"},
    ],
)
def test_sec19_headers_that_do_not_mirror_the_body_are_refused(guarded, changed) -> None:
    headers = {key: value for key, value in {**MIRROR, **changed}.items() if value is not None}
    message = {**CALL, "params": {**CALL["params"], "_meta": META}}
    answer = _refused(guarded, json.dumps(message).encode(), **headers)
    assert answer.json()["id"] == 1
    assert answer.json()["error"]["code"] in {-32020, -32602, -32600}


@pytest.mark.parametrize("name", ["mcp-method", "mcp-name", "mcp-protocol-version", "mcp-param-x"])
def test_sec19_routing_header_sent_twice_is_refused(guarded, name) -> None:
    """Also where both say the same: the server behind us might read the one that we did not."""
    mirror = {name.replace("_", "-"): value for name, value in MIRROR.items()} | {"mcp-param-x": "1"}
    body = json.dumps({**CALL, "params": {**CALL["params"], "_meta": META}}).encode()
    pairs = [*mirror.items(), (name, mirror[name]), ("authorization", f"Bearer {_token(guarded)}")]
    code = "wire.header_mismatch" if name == "mcp-param-x" else "wire.header_duplicate"
    answer = guarded.assert_refused(lambda: send_pairs(guarded, pairs, body), 400, code)
    assert (answer.json()["id"], answer.json()["error"]["code"]) == (1, -32020)


@pytest.mark.parametrize("option", ["mcp-protocol-version", "close, MCP-Name", "keep-alive,mcp-param-x", "mcp-method"])
def test_sec19_routing_header_that_is_hidden_from_the_server_is_refused(guarded, option) -> None:
    """What `Connection` names ends at the proxy: the server would serve another era than the one that was checked."""
    mirror = {name.replace("_", "-"): value for name, value in MIRROR.items()} | {"mcp-param-x": "1"}
    body = json.dumps({**CALL, "params": {**CALL["params"], "_meta": META}}).encode()
    pairs = [*mirror.items(), ("connection", option), ("authorization", f"Bearer {_token(guarded)}")]
    guarded.assert_refused(lambda: send_pairs(guarded, pairs, body), 400, "wire.header_mismatch")


def test_sec19_orphan_name_header_is_refused(guarded) -> None:
    message = {**LIST, "params": {"_meta": META}}
    _refused(guarded, json.dumps(message).encode(), **{**MIRROR, "mcp_method": "tools/list"})


def test_sec22_encoded_name_is_decoded_before_it_is_compared(guarded) -> None:
    message = {**CALL, "params": {**CALL["params"], "_meta": META}}
    answer = guarded.sidecar.post("a", message, _token(guarded), **{**MIRROR, "mcp_name": "=?base64?ZWNobw==?="})
    assert answer.status == 200


def test_sec20_oversized_body_is_refused_before_it_is_parsed(guarded) -> None:
    body = json.dumps({**CALL, "params": {"name": "echo", "arguments": {"x": "y" * 5_000_000}}}).encode()
    answer = _refused(guarded, body)
    assert answer.status == 413


def test_sec21_deep_nesting_is_refused(guarded) -> None:
    for depth in (65, 1_000, 100_000):
        body = b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":' + b"[" * depth + b"]" * depth + b"}}"
        _refused(guarded, body)


def test_unsupported_version_names_what_is_supported(guarded) -> None:
    meta = {**META, "io.modelcontextprotocol/protocolVersion": "2099-01-01"}
    message = {**LIST, "params": {"_meta": meta}}
    answer = _refused(guarded, json.dumps(message).encode(), mcp_protocol_version="2099-01-01", mcp_method="tools/list")
    assert answer.json()["error"]["code"] == -32022
    assert MODERN in answer.json()["error"]["data"]["supported"]
