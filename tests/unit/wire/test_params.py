"""Mirrored arguments; the reference SDK is the oracle."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared.inbound import find_invalid_x_mcp_header, validate_mcp_param_headers

from proxy.wire.params import declared_params, param_mismatch


def schema(kind: str = "string", token: object = "A") -> dict[str, Any]:
    return {"type": "object", "properties": {"a": {"type": kind, "x-mcp-header": token}}}


def mismatch(tool: object, arguments: dict[str, Any], **headers: str) -> str | None:
    lines = [(f"mcp-param-{name}".encode(), value.encode()) for name, value in headers.items()]
    return param_mismatch(lines, arguments, declared_params(tool))


@pytest.mark.parametrize(
    ("kind", "value", "header"),
    [
        ("string", "eu", "eu"),
        ("string", "é", "=?base64?w6k=?="),
        ("string", "", ""),
        ("boolean", True, "true"),
        ("integer", 42, "42"),
        ("integer", 42, "42.0"),
        ("integer", 42, "042"),
        ("integer", 42.0, "42"),
        ("integer", 0, "-0"),
        ("integer", 2**90, str(2**90)),
        ("integer", -7, "-7.00"),
    ],
)
def test_an_argument_and_its_header_agree(kind: str, value: object, header: str):
    assert mismatch(schema(kind), {"a": value}, a=header) is None


@pytest.mark.parametrize(
    ("kind", "value", "header"),
    [
        ("string", "eu", "EU"),
        ("string", "42", "42.0"),
        ("boolean", True, "True"),
        ("boolean", True, "1"),
        ("integer", 42, "43"),
        ("integer", 42, "42.5"),
        ("integer", 42, "4.2e1"),
        ("integer", 2**90, str(2**90 + 1)),
        ("integer", 42, "٤٢"),
        ("integer", True, "1"),
        ("string", ["x"], "x"),
        ("string", "x", "=?base64?x?="),
    ],
)
def test_an_argument_and_its_header_disagree(kind: str, value: object, header: str):
    assert mismatch(schema(kind), {"a": value}, a=header) is not None


def test_header_and_argument_are_there_together_or_not_at_all():
    assert mismatch(schema(), {}) is None
    assert mismatch(schema(), {"a": None}) is None
    assert "missing" in (mismatch(schema(), {"a": "x"}) or "")
    assert "counterpart" in (mismatch(schema(), {}, a="x") or "")
    assert "counterpart" in (mismatch(schema(), {"a": None}, a="null") or "")


def test_nested_arguments_are_reached_through_properties():
    nested = {"properties": {"outer": schema("integer", "Deep")}}

    assert mismatch(nested, {"outer": {"a": 1}}, deep="1") is None
    assert mismatch(nested, {"outer": {"a": 1}}, deep="2") is not None
    assert mismatch(nested, {"outer": 5}) is None


def test_headers_that_nobody_declared_pass_but_not_twice():
    assert mismatch({}, {}, other="x") is None
    assert param_mismatch([(b"mcp-param-x", b"1"), (b"mcp-param-x", b"1")], {}, ()) is not None


@pytest.mark.parametrize(
    "invalid",
    [
        schema("number"),
        schema("array"),
        schema(token=""),
        schema(token="a b"),
        schema(token=5),
        {"properties": {"a": {"x-mcp-header": "A"}}},
        {"properties": {"a": {"type": ["string"], "x-mcp-header": "A"}}},
        {"type": "string", "x-mcp-header": "A"},
        {"items": {"type": "string", "x-mcp-header": "A"}},
        {"anyOf": [schema()]},
        {"$defs": {"x": schema()}},
        {"properties": {"a": {"type": "string", "x-mcp-header": "A"}, "b": {"type": "string", "x-mcp-header": "a"}}},
    ],
)
def test_one_invalid_declaration_voids_them_all(invalid: dict[str, Any]):
    assert declared_params(invalid) == ()
    assert find_invalid_x_mcp_header(invalid) is not None


@pytest.mark.parametrize(
    "data", [{"default": schema()}, {"const": schema()}, {"properties": {"x": {"enum": [schema()]}}}]
)
def test_data_in_a_schema_declares_nothing(data: dict[str, Any]):
    assert declared_params(data) == ()
    assert find_invalid_x_mcp_header(data) is None


def test_a_deep_schema_does_not_recurse():
    deep: dict[str, Any] = schema()
    for _ in range(5_000):
        deep = {"properties": {"a": deep}}

    assert len(declared_params(deep)) == 1


PROPERTY = st.fixed_dictionaries(
    {"type": st.sampled_from(["string", "integer", "boolean", "number"])},
    optional={"x-mcp-header": st.sampled_from(["A", "B", "a", "c d"])},
)
OBJECTS = st.fixed_dictionaries({"properties": st.dictionaries(st.sampled_from(["x", "y"]), PROPERTY)})
SCHEMAS = st.fixed_dictionaries({"properties": st.dictionaries(st.sampled_from(["x", "y"]), PROPERTY | OBJECTS)})
SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([1.0, 1.5, "1", "true", "1.0", "é", ["x"]])
ARGUMENTS = st.dictionaries(
    st.sampled_from(["x", "y"]), SCALARS | st.dictionaries(st.sampled_from(["x", "y"]), SCALARS)
)
HEADERS = st.dictionaries(
    st.sampled_from(["mcp-param-a", "mcp-param-b", "mcp-param-z"]),
    st.sampled_from(["1", "1.0", "01", "-1", "1.5", "true", "True", "=?base64?w6k=?=", "=?base64?!?=", ""]),
)


@given(SCHEMAS, ARGUMENTS, HEADERS)
def test_the_reference_sdk_judges_alike(tool: dict[str, Any], arguments: dict[str, Any], headers: dict[str, str]):
    ours = param_mismatch(
        [(name.encode(), value.encode()) for name, value in headers.items()], arguments, declared_params(tool)
    )
    theirs = validate_mcp_param_headers(tool, arguments, headers)

    assert (ours is None) == (theirs is None)
