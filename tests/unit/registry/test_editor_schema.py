from typing import Any

import jsonschema
import pytest
import yaml

from registry.editor_schema import editor_schema
from tests.unit.registry.making import A

SCHEMA: dict[str, Any] = editor_schema()


def is_valid(text: str) -> bool:
    return jsonschema.Draft7Validator(SCHEMA).is_valid(yaml.safe_load(text))


def test_it_is_a_draft_7_schema():
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"
    jsonschema.Draft7Validator.check_schema(SCHEMA)


def test_it_uses_nothing_that_draft_7_does_not_know():
    text = str(SCHEMA)
    for word in ("$defs", "prefixItems", "unevaluated", "dependentRequired", "$dynamicRef"):
        assert word not in text


@pytest.mark.parametrize(
    "text",
    [
        f"version: 1\nservers:\n  a: {{{A}}}\n",
        "version: 1\ninclude: [servers/*.yaml]\n",
        "version: 1\ninclude: servers/*.yaml\n",
        "servers:\n  a: {env: {TZ: UTC, K: {value: 'env:K', secret: true}}}\n",
        "agents:\n  x: {subjects: [x], variables: {V: v}}\n",
    ],
)
def test_it_takes_what_the_loader_takes(text: str):
    assert is_valid(text)


@pytest.mark.parametrize(
    "text",
    ["version: 2\n", "version: 1\nserver: {}\n", "servers: {a: {prt: 1}}\n", "servers: {a: {port: '80'}}\n", "servers: {My_Server: {}}\n", "servers: {a: {env: {X: 5}}}\n", "servers: {a: {transport: tcp}}\n", "agents: {x: {servers: {a: {tool: []}}}}\n", "servers: []\n"],
)  # fmt: skip
def test_it_refuses_what_the_loader_refuses(text: str):
    assert not is_valid(text)


def test_sections_have_descriptions_for_the_editor():
    assert SCHEMA["definitions"]["Server"]["description"]
