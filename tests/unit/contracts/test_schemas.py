"""Schemas from strangers: compiled within bounds or refused, values checked with the place that is wrong (SPEC C2)."""

import time
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.contracts.cost import MAX_DEPTH
from registry.contracts.schemas import SchemaError, compile_schema

OBJECT: dict[str, Any] = {"type": "object"}


def doubling(levels: int) -> dict[str, Any]:
    """Return definitions of which each asks the next one twice."""
    twice = {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(levels)}
    return {**OBJECT, "$defs": {**twice, f"d{levels}": {"type": "string"}}, "properties": {"x": {"$ref": "#/$defs/d0"}}}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


REFUSED = [
    ("no object", [1], "must be an object"),
    ("a boolean", True, "must be an object"),
    ("not about an object", {"type": "string"}, '"type": "object"'),
    ("no type", {}, '"type": "object"'),
    ("unknown type", {**OBJECT, "properties": {"a": {"type": "wat"}}}, "/properties/a/type"),
    ("unknown dialect", {**OBJECT, "$schema": "https://example.com/dialect"}, "dialect"),
    ("network", {**OBJECT, "properties": {"a": {"$ref": "http://127.0.0.1:9/x"}}}, "references into the schema itself"),
    ("file", {**OBJECT, "allOf": [{"$ref": "file:///etc/passwd"}]}, "references into the schema itself"),
    ("relative file", {**OBJECT, "allOf": [{"$ref": "other.json"}]}, "references into the schema itself"),
    ("dynamic network", {**OBJECT, "allOf": [{"$dynamicRef": "http://127.0.0.1:9/x"}]}, "references into the schema itself"),
    ("dangling", {**OBJECT, "allOf": [{"$ref": "#/$defs/none"}]}, "which is not there"),
    ("dangling anchor", {**OBJECT, "allOf": [{"$ref": "#none"}]}, "which is not there"),
    ("refers to itself", {**OBJECT, "$ref": "#"}, "refers to itself"),
    ("refers in a ring", {**OBJECT, "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"not": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}, "refers to itself"),
    ("explodes", doubling(30), "looks"),
    ("explodes at its top", {**doubling(30), "$ref": "#/$defs/d0"}, "looks"),
    ("nests too deep", nested(500), "levels deep"),
    ("too large", {**OBJECT, "description": "x" * 300_000}, "bytes"),
    ("inner id", {**OBJECT, "$defs": {"a": {"$id": "https://example.com/a"}}, "$ref": "#/$defs/a"}, "`$id`"),
    ("pattern explodes", {**OBJECT, "properties": {"a": {"pattern": "(a{1000}){1000}"}}}, "regex"),
    ("not finite", {**OBJECT, "properties": {"a": {"const": float("inf")}}}, "inf"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "said"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_schema_that_cannot_be_trusted_is_refused_quickly(schema, said) -> None:
    began = time.monotonic()
    with pytest.raises(SchemaError) as refused:
        compile_schema(schema, "input")
    assert said in str(refused.value)
    assert time.monotonic() - began < 2


def test_input_is_told_with_its_place_and_without_its_value() -> None:
    schema = {
        **OBJECT,
        "properties": {"a/b": {"type": "array", "items": {"type": "integer"}}},
        "additionalProperties": False,
    }
    checker = compile_schema(schema, "input")
    assert checker.fault({"a/b": [1, 2]}) is None
    wrong = checker.fault({"a/b": [1, "my password"]})
    assert wrong == '/a~1b/1: the value is not of type "integer"'
    assert "'c' was unexpected" in (checker.fault({"c": 1}) or "")


def test_output_schema_may_be_of_any_type() -> None:
    checker = compile_schema({"type": "array", "items": {"type": "string"}}, "output")
    assert checker.fault(["a"]) is None
    assert checker.fault({"a": 1}) == '/: the value is not of type "array"'


@pytest.mark.parametrize(
    "dialect", ["http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2019-09/schema"]
)
def test_older_dialects_are_understood(dialect) -> None:
    checker = compile_schema(
        {
            **OBJECT,
            "$schema": dialect,
            "definitions": {"a": {"type": "null"}},
            "properties": {"a": {"$ref": "#/definitions/a"}},
        },
        "input",
    )
    assert checker.fault({"a": None}) is None
    assert checker.fault({"a": 1}) is not None


def test_patterns_run_in_linear_time() -> None:
    checker = compile_schema({**OBJECT, "properties": {"a": {"pattern": "^(a+)+$"}}}, "input")
    assert not checker.backtracks
    began = time.monotonic()
    assert checker.fault({"a": "a" * 100_000 + "!"}) is not None
    assert time.monotonic() - began < 1


def test_pattern_that_looks_around_has_a_step_limit() -> None:
    checker = compile_schema({**OBJECT, "properties": {"a": {"pattern": r"(?=a)^(a|a)+\1b$"}}}, "input")
    assert checker.backtracks
    began = time.monotonic()
    assert checker.fault({"a": "a" * 5000 + "!"}) is not None
    assert time.monotonic() - began < 1


def test_recursive_schema_is_fine() -> None:
    node = {
        "type": "object",
        "properties": {"left": {"$ref": "#/$defs/n"}, "right": {"$ref": "#/$defs/n"}, "v": {"type": "integer"}},
    }
    checker = compile_schema({**OBJECT, "$defs": {"n": node}, "properties": {"root": {"$ref": "#/$defs/n"}}}, "input")
    assert checker.fault({"root": {"left": {"right": {"v": 1}}}}) is None
    assert checker.fault({"root": {"left": {"right": {"v": "1"}}}}) is not None


def test_recursive_union_is_checked_as_deep_as_is_affordable() -> None:
    """Five kinds of node with children: two to the power of the depth, so that depth is bounded, and told."""
    kinds = [
        {"type": "object", "properties": {"kind": {"const": each}, "children": {"type": "array", "items": {"$ref": "#/$defs/n"}}}, "required": ["kind"]}
        for each in "abcde"
    ]  # fmt: skip
    checker = compile_schema(
        {**OBJECT, "$defs": {"n": {"anyOf": kinds}}, "properties": {"root": {"$ref": "#/$defs/n"}}}, "input"
    )
    assert checker.max_depth is not None
    assert 4 < checker.max_depth < MAX_DEPTH
    tree: dict[str, Any] = {"kind": "e"}
    assert checker.fault({"root": {"kind": "a", "children": [tree]}}) is None
    for _ in range(checker.max_depth):
        tree = {"kind": "e", "children": [tree]}
    began = time.monotonic()
    assert "levels deep" in (checker.fault({"root": tree}) or "")
    assert time.monotonic() - began < 0.5


def test_value_that_nests_beyond_all_reason_is_no_value_of_a_recursive_schema() -> None:
    checker = compile_schema({**OBJECT, "properties": {"a": {"$ref": "#"}}}, "input")
    deep: dict[str, Any] = {}
    for _ in range(5_000):
        deep = {"a": deep}
    assert "levels deep" in (checker.fault(deep) or "")


SCHEMAS = st.recursive(
    st.sampled_from(
        [{}, {"type": "string"}, {"type": "integer"}, {"const": 1}, {"maxLength": 2}, {"$ref": "#/$defs/d"}]
    ),
    lambda inner: st.one_of(
        st.builds(lambda a: {"anyOf": [a, {"type": "null"}]}, inner),
        st.builds(lambda a, b: {"allOf": [a, b]}, inner, inner),
        st.builds(lambda a: {"properties": {"a": a}, "required": ["a"]}, inner),
        st.builds(lambda a: {"items": a}, inner),
        st.builds(lambda a: {"not": a}, inner),
        st.builds(lambda a: {"additionalProperties": a}, inner),
    ),
    max_leaves=6,
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)


@given(SCHEMAS, VALUES)
@settings(max_examples=200, deadline=None)
def test_another_validator_says_the_same(schema, value) -> None:
    """What is accepted here is accepted by the reference implementation in Python, and the other way round."""
    whole = {"$defs": {"d": {"type": "boolean"}}, "properties": {"x": schema}}
    try:
        checker = compile_schema(whole, "output")
    except SchemaError:
        return
    assert (checker.fault({"x": value}) is None) == jsonschema.Draft202012Validator(whole).is_valid({"x": value})
