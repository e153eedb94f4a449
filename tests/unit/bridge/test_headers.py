"""Our verdicts on modern requests are those of the official SDK."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared.inbound import (
    InboundLadderRejection,
    classify_inbound_request,
    decode_header_value,
    encode_header_value,
    find_invalid_x_mcp_header,
    validate_mcp_param_headers,
    x_mcp_header_map,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from starlette.datastructures import Headers

from proxy.bridge.headers import (
    CAPABILITIES_KEY,
    LEGACY_VERSIONS,
    MODERN_VERSIONS,
    VERSION_KEY,
    RequestHeaders,
    decode_value,
    is_modern,
    refuse_request,
    refuse_version,
)
from proxy.bridge.parameters import PREFIX, mirrored_arguments, refuse_parameters

METHODS = st.sampled_from(["tools/call", "tools/list", "prompts/get", "resources/read", "TOOLS/CALL", "x"])
VERSIONS = st.sampled_from(["2026-07-28", "2025-11-25", "2027-01-01", ""])
NAMES = st.sampled_from(["a", "b", "é", "", "=?base64?YQ==?=", "=?base64?YR==?=", "=?base64?!?=", "=?BASE64?YQ==?="])
VALUES = st.sampled_from(
    ["1", "1.0", "42", "042", "true", "false", "x", "é", "", "1e3", "-0", "=?base64?eA==?=", "=?base64?x?="]
)


def headers_of(pairs: list[tuple[str, str]]) -> RequestHeaders:
    return RequestHeaders((name.encode(), value.encode("latin-1", "replace")) for name, value in pairs)


def test_the_versions_are_those_of_the_sdk():
    assert LEGACY_VERSIONS == HANDSHAKE_PROTOCOL_VERSIONS
    assert MODERN_VERSIONS == MODERN_PROTOCOL_VERSIONS


@given(
    method=METHODS,
    name=NAMES | st.none() | st.integers(),
    meta=st.none()
    | st.fixed_dictionaries(
        {}, optional={VERSION_KEY: VERSIONS | st.none() | st.integers(), CAPABILITIES_KEY: st.just({})}
    ),
    version=VERSIONS | st.none(),
    method_header=METHODS | st.none(),
    name_header=NAMES | st.none(),
)
def test_a_request_is_refused_with_the_code_of_the_sdk(
    method: str,
    name: object,
    meta: dict[str, Any] | None,
    version: str | None,
    method_header: str | None,
    name_header: str | None,
):
    params = {"name": name, "uri": name, **({} if meta is None else {"_meta": meta})}
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    offered = [("mcp-protocol-version", version), ("mcp-method", method_header), ("mcp-name", name_header)]
    pairs = [(key, value) for key, value in offered if value is not None]
    expected = classify_inbound_request(
        body, headers={key: value.encode("latin-1", "replace").decode("latin-1") for key, value in pairs}
    )
    failure = refuse_request(body, headers_of(pairs))
    assert (failure.code if failure else None) == (
        expected.code if isinstance(expected, InboundLadderRejection) else None
    )


@pytest.mark.parametrize("name", ["mcp-protocol-version", "Mcp-Method", "MCP-NAME"])
def test_a_routing_header_twice_is_refused(name: str):
    pairs = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "a")]
    body = {"method": "tools/call", "params": {"name": "a", "_meta": {VERSION_KEY: "2026-07-28", CAPABILITIES_KEY: {}}}}
    assert refuse_request(body, headers_of(pairs)) is None
    again = next(value for key, value in pairs if key == name.lower())
    failure = refuse_request(body, headers_of([*pairs, (name, again)]))
    assert failure is not None
    assert failure.code == -32020


@given(st.text() | VALUES)
def test_wrapped_values_are_decoded_as_by_the_sdk(text: str):
    assert decode_value(text) == decode_header_value(text)
    assert decode_value(encode_header_value(text)) == text


@given(st.binary())
def test_wrapped_bytes_that_are_no_text_are_nothing(raw: bytes):
    wrapped = f"=?base64?{base64.b64encode(raw).decode()}?="
    assert decode_value(wrapped) == decode_header_value(wrapped)


def test_white_space_around_a_value_is_not_part_of_it():
    assert headers_of([("Mcp-Name", " \t a b \t")]).get("mcp-name") == "a b"


@pytest.mark.parametrize(
    ("version", "modern"),
    [
        (None, False),
        ("2025-03-26", False),
        ("2025-11-25", False),
        ("2026-07-28", True),
        ("2099-01-01", True),
        ("", True),
    ],
)
def test_the_era_is_told_by_the_version_header(version: str | None, *, modern: bool):
    assert is_modern(headers_of([] if version is None else [("mcp-protocol-version", version)])) is modern


def test_an_unknown_version_is_refused_with_the_ones_that_are_served():
    assert refuse_version("2026-07-28") is None
    failure = refuse_version("2099-01-01")
    assert failure is not None
    assert failure.data == {"supported": ["2026-07-28"], "requested": "2099-01-01"}


TYPES = st.sampled_from(["string", "integer", "boolean", "number", "object", ["string"], None])
LEAF = st.fixed_dictionaries(
    {}, optional={"type": TYPES, "x-mcp-header": st.sampled_from(["Region", "region", "Zone", "", "a b", "ä", 5])}
)
SCHEMAS = st.recursive(
    LEAF,
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": TYPES,
            "properties": st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
            "items": inner,
            "allOf": st.lists(inner, max_size=2),
            "$defs": st.dictionaries(st.sampled_from(["d"]), inner, max_size=1),
            "default": inner,
            "not": inner,
        },
    ),
    max_leaves=8,
)
ARGUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-50, 50) | st.floats(-50, 50) | st.sampled_from(["x", "é", "", "1", "42"]),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=6,
)


@given(SCHEMAS)
def test_mirrored_arguments_are_those_of_the_sdk(schema: dict[str, Any]):
    is_valid = find_invalid_x_mcp_header(schema) is None
    expected = {path: PREFIX + token.lower() for path, token in x_mcp_header_map(schema).items()} if is_valid else {}
    assert {one.path: one.header for one in mirrored_arguments(schema)} == expected


@given(
    schema=SCHEMAS,
    arguments=st.dictionaries(st.sampled_from(["a", "b", "c"]), ARGUMENTS, max_size=3),
    headers=st.lists(st.tuples(st.sampled_from(["mcp-param-region", "Mcp-Param-Zone"]), VALUES), max_size=3),
)
def test_mirrored_headers_are_judged_as_by_the_sdk(
    schema: dict[str, Any], arguments: dict[str, Any], headers: list[tuple[str, str]]
):
    raw = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers]
    expected = validate_mcp_param_headers(schema, arguments, Headers(raw=raw))
    failure = refuse_parameters(mirrored_arguments(schema), arguments, RequestHeaders(raw))
    assert (failure is None) == (expected is None)
