import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.problems import (
    Place,
    Problem,
    excerpt,
    in_file_order,
    printable,
    quoted,
    quoted_path,
    render_json,
    render_sarif,
    render_text,
)

PORT = Problem(
    "PORT-RANGE", "postern.yaml", 9, 11, "servers.notes.port: must be 1-65535", "choose another", "    port: 99999"
)
OTHER = Problem("X-Y", "/etc/postern.yaml", 1, 1, "bad", related=(Place("servers/a b.yaml", 3, 4),))


def test_text_shows_place_code_line_caret_and_hint():
    assert render_text([PORT]) == (
        "postern.yaml:9:11: PORT-RANGE servers.notes.port: must be 1-65535\n"
        "    9 |     port: 99999\n"
        "      |           ^\n"
        "      hint: choose another\n"
        "\n"
        "1 problem in 1 file: nothing starts.\n"
    )


def test_nothing_wrong_is_rendered_as_nothing():
    assert render_text([]) == ""
    assert json.loads(render_json([])) == {"ok": True, "problems": []}


def test_json_has_the_fields_of_a_problem():
    document = json.loads(render_json([PORT]))
    assert document["ok"] is False
    assert document["problems"][0]["line"] == 9
    assert document["problems"][0]["code"] == "PORT-RANGE"


def test_a_file_name_that_is_not_utf_8_leaves_the_output_readable():
    odd = Problem("X-Y", "servers/\udcff.yaml", 1, 1, "é")
    for render in (render_text, render_json, render_sarif):
        assert render([odd]).encode()
    assert json.loads(render_json([odd]))["problems"][0]["file"] == odd.file


def test_sarif_points_at_the_places():
    log = json.loads(render_sarif([PORT, OTHER]))
    run = log["runs"][0]
    assert log["version"] == "2.1.0"
    first, second = run["results"]
    assert first["locations"][0]["physicalLocation"]["region"] == {"startLine": 9, "startColumn": 11}
    assert first["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "postern.yaml"
    assert second["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "file:///etc/postern.yaml"
    assert second["relatedLocations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "servers/a%20b.yaml"
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["PORT-RANGE", "X-Y"]
    assert run["tool"]["driver"]["rules"][second["ruleIndex"]]["id"] == "X-Y"


# The part of the SARIF 2.1.0 schema (OASIS) that code-scanning services insist on.
SARIF = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool", "results"],
                "properties": {
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "properties": {"driver": {"type": "object", "required": ["name"]}},
                    },
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "results": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["message", "ruleId", "locations"],
                            "properties": {
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "ruleIndex": {"type": "integer", "minimum": 0},
                                "message": {
                                    "type": "object",
                                    "required": ["text"],
                                    "properties": {"text": {"type": "string", "minLength": 1}},
                                },
                                "locations": {
                                    "type": "array",
                                    "items": {
                                        "type": "object",
                                        "required": ["physicalLocation"],
                                        "properties": {
                                            "physicalLocation": {
                                                "type": "object",
                                                "properties": {
                                                    "region": {
                                                        "type": "object",
                                                        "properties": {
                                                            "startLine": {"type": "integer", "minimum": 1},
                                                            "startColumn": {"type": "integer", "minimum": 1},
                                                        },
                                                    }
                                                },
                                            }
                                        },
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


def test_sarif_keeps_its_schema():
    jsonschema.validate(json.loads(render_sarif([PORT, OTHER])), SARIF)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("  secret: hunter2", "  secret: **********"),
        ("  - {kid: a, secret: hunter2}", "  - {kid: a, secret: **********"),
        ('  "password": "hunter2"', '  "password": **********'),
        ("  API_TOKEN: hunter2", "  API_TOKEN: **********"),
        ("  database: postgresql://u:hun@ter2@h:5/d", "  database: postgresql://u:**********@h:5/d"),
        ("  api-key: x", "  api-key: **********"),
        ("  Authorization: Bearer x", "  Authorization: **********"),
        ("  secret: env:NOTES_KEY", "  secret: env:NOTES_KEY"),
        ("  secret: 'file:keys/notes'", "  secret: 'file:keys/notes'"),
        ("  secret: true", "  secret: true"),
        ("  keys: [{kid: a, secret: store:notes}]", "  keys: [{kid: a, secret: store:notes}]"),
        ('  {"secret":"hunter2"}', '  {"secret":**********'),
        ("  STRIPE_KEY: hunter2", "  STRIPE_KEY: **********"),
        ("  secret:hunter2", "  secret:hunter2"),
        ("  tokens: {a: 1}", "  tokens: {a: 1}"),
        ("  port: 80", "  port: 80"),
        ("\tport: 80", " port: 80"),
    ],
)
def test_an_excerpt_masks_what_looks_like_a_secret(line: str, shown: str):
    assert excerpt(line) == shown


def test_long_lines_are_cut_and_the_caret_stays_near():
    problem = Problem("A-B", "f", 1, 500, "m", excerpt=excerpt("x" * 1000))
    assert all(len(line) < 200 for line in render_text([problem]).split("\n"))


@given(st.text())
def test_nothing_that_is_shown_moves_the_cursor(text: str):
    assert printable(text).isprintable()
    assert quoted(text).isprintable()
    assert len(quoted(text)) <= 60 * 8


def test_a_path_is_shown_to_its_end():
    path = "/srv/" + "a/" * 100 + "nowhere"
    assert quoted_path(path) == f'"{path}"'
    shown = quoted_path("/x" * 5000 + "/nowhere\n\udc80")
    assert shown.startswith('"…')
    assert shown.endswith('/nowhere\\n\\udc80"')
    assert len(shown) < 1100


def test_problems_are_sorted_by_file_line_and_column_and_appear_once():
    a, b = Problem("A-A", "b.yaml", 2, 1, "m"), Problem("A-A", "a.yaml", 9, 9, "m")
    c = Problem("A-A", "b.yaml", 1, 7, "m")
    assert in_file_order([a, b, c, a], ["b.yaml", "a.yaml"]) == (c, a, b)
