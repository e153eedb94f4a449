"""Each variant accepts what it is and refuses, with the place, what it is not (SPEC C3)."""

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.artifacts import KINDS, check_result, schema_of
from registry.artifacts.check import check_document
from tests.unit.artifacts.examples import INVALID, TABLE, VALID

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize(("kind", "result"), VALID, ids=[f"{kind}-{n}" for n, (kind, _) in enumerate(VALID)])
def test_what_a_variant_is_passes(kind, result) -> None:
    assert check_result(kind, result) is None


@pytest.mark.parametrize(("kind", "result", "where"), INVALID, ids=[f"{each[0]}-{n}" for n, each in enumerate(INVALID)])
def test_what_a_variant_is_not_is_told_with_its_place(kind, result, where) -> None:
    wrong = check_result(kind, result)
    assert wrong is not None
    assert wrong.startswith(where), wrong


def test_every_variant_has_a_valid_and_several_invalid_examples() -> None:
    assert {kind for kind, _ in VALID} == set(KINDS)
    assert all(sum(kind == each for each, _, _ in INVALID) >= 3 for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_schemas_are_schemas_for_another_validator_too(kind) -> None:
    schema = schema_of(kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["title"] == kind
    assert schema["description"]


def test_two_validators_agree_about_a_table() -> None:
    """The table's rules between members are ours; about its members both validators say the same."""
    oracle = jsonschema.Draft202012Validator(schema_of("table"))
    assert oracle.is_valid(TABLE)
    assert not oracle.is_valid({"columns": ["a"]})


@given(kind=st.sampled_from(KINDS), value=JSON)
@settings(max_examples=150, deadline=None)
def test_no_document_makes_a_check_raise(kind, value) -> None:
    check_document(kind, value)
    check_result(kind, {"content": value, "structuredContent": value})
    check_result(kind, {"content": [value, {"type": "text", "text": json.dumps(value)}]})


def test_huge_integers_are_numbers_like_others() -> None:
    cells = {"columns": [{"name": "n", "type": "integer"}], "rows": [[10**400]]}
    assert check_document("table", cells) is None


def test_docs_show_every_variant() -> None:
    """docs/artifacts.md has a section for each, with a document that is one."""
    page = (Path(__file__).parents[3] / "docs" / "artifacts.md").read_text(encoding="utf-8")
    for kind in KINDS:
        _, _, section = page.partition(f"\n### {kind}\n")
        example = section.partition("```json\n")[2].partition("```")[0]
        assert check_document(kind, json.loads(example)) is None, kind
