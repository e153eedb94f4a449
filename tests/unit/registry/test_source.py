import time

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.problems import Place
from registry.source import MAX_BYTES, MAX_DEPTH, MAX_VALUES, Data, parse, read_plain

POSITIONED = b"""\
version: 1
servers:
  notes:
    port: 5001
    command: [python, -m, notes]
    tools:
      - name: read
        n: "x"
"""


def data_of(text: str) -> Data:
    source, problems = parse(text.encode(), "f.yaml")
    assert problems == (), problems
    assert source.root is not None
    return source.root.data


def codes_of(text: str | bytes) -> list[str]:
    content = text if isinstance(text, bytes) else text.encode()
    return [problem.code for problem in parse(content, "f.yaml")[1]]


@pytest.mark.parametrize(
    ("pointer", "key", "line", "col"),
    [
        (("version",), False, 1, 10),
        (("version",), True, 1, 1),
        (("servers",), False, 2, 1),
        (("servers", "notes"), False, 3, 3),
        (("servers", "notes", "port"), False, 4, 11),
        (("servers", "notes", "command"), False, 5, 5),
        (("servers", "notes", "command", 2), False, 5, 27),
        (("servers", "notes", "tools", 0), False, 7, 9),
        (("servers", "notes", "tools", 0, "n"), False, 8, 12),
        (("servers", "notes", "absent"), False, 3, 3),
        (("servers", "other", "port"), False, 2, 1),
        (("nothing",), False, 1, 1),
        (("version", "inside"), False, 1, 10),
        ((), False, 1, 1),
    ],
)
def test_every_node_has_its_line_and_column(pointer, key: bool, line: int, col: int):
    source, _ = parse(POSITIONED, "f.yaml")
    assert source.locate(pointer, key=key) == Place("f.yaml", line, col)


def test_columns_count_characters_and_not_bytes():
    source, _ = parse("é: {ü: ö}\n".encode(), "f.yaml")
    assert source.locate(("é", "ü")) == Place("f.yaml", 1, 8)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("Off", "Off"), ("y", "y"),
        ("true", True), ("True", True), ("FALSE", False), ("tRue", "tRue"),
        ("null", None), ("~", None), ("", None), ("nil", "nil"),
        ("0", 0), ("-12", -12), ("+7", 7), ("0x1F", 31), ("0o17", 15), ("0b11", "0b11"), ("1_000", "1_000"),
        ("1.5", 1.5), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("-2.5E-1", -0.25), ("1.2.3", "1.2.3"), ("-", "-"), (".", "."),
        ("12:30:45", "12:30:45"), ("2026-11-23", "2026-11-23"), ("<<", "<<"), ("=", "="), ("0x", "0x"), ("5001a", "5001a"),
    ],
)  # fmt: skip
def test_unquoted_scalars_are_read_as_yaml_1_2(text: str, value: Data):
    found = read_plain(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["010", "-007", "00", ".inf", "-.INF", ".nan", "1e999", "9" * 33])
def test_numbers_that_mean_two_things_or_nothing_are_refused(text: str):
    with pytest.raises(ValueError):
        read_plain(text)
    assert codes_of(f"a: {text}") == ["YAML-NUMBER"]


def test_quoted_scalars_stay_text():
    assert data_of("a: '010'\nb: \"true\"\nc: |\n  5\n") == {"a": "010", "b": "true", "c": "5\n"}


def test_keys_are_text_whatever_they_look_like():
    assert data_of("5001: a\ntrue: b\non: c\n010: d\n") == {"5001": "a", "true": "b", "on": "c", "010": "d"}


def test_a_duplicate_key_keeps_the_first_value_and_names_its_line():
    source, (problem,) = parse(b"a: 1\nb: 2\na: [3, {x: 4}]\n", "f.yaml")
    assert source.root is not None
    assert source.root.data == {"a": 1, "b": 2}
    assert (problem.code, problem.line, problem.col) == ("YAML-DUPLICATE-KEY", 3, 1)
    assert problem.related == (Place("f.yaml", 1, 1),)


def test_the_same_key_in_two_mappings_is_fine():
    assert data_of("a: {x: 1}\nb: {x: 2}\n") == {"a": {"x": 1}, "b": {"x": 2}}


def test_a_quoted_merge_key_is_an_ordinary_key():
    assert data_of("'<<': 1") == {"<<": 1}


def test_all_findings_of_a_file_are_reported():
    text = "a: &x 1\nb: *x\nc: !!str 2\nd: 010\na: 2\n"
    assert codes_of(text) == ["YAML-ANCHOR", "YAML-ANCHOR", "YAML-TAG", "YAML-NUMBER", "YAML-DUPLICATE-KEY"]


@pytest.mark.parametrize(
    "character", ["\x00", "\x07", "\x7f", "\x85", "\u2028", "\u202e", "\u2066", "\ufeff", "\ufffe"]
)
def test_characters_that_do_not_show_are_refused_where_they_are(character: str):
    _, (problem,) = parse(f"a: 1\nb: x{character}y\n".encode(), "f.yaml")
    assert (problem.code, problem.line, problem.col) == ("YAML-CHARACTER", 2, 5)


def test_a_byte_order_mark_at_the_start_is_let_pass():
    assert data_of("\ufeffa: 1") == {"a": 1}


@pytest.mark.parametrize("content", [b"\xff\xfea\x00", "a: ü".encode("latin-1"), b"a: \xed\xa0\x80", b"\xc0\x80"])
def test_what_is_not_utf_8_is_refused(content: bytes):
    assert codes_of(content) == ["YAML-ENCODING"]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lines_count_the_same_with_every_line_ending(newline: str):
    source, _ = parse(f"a: 1{newline}b:{newline}  c: 2".encode(), "f.yaml")
    assert source.locate(("b", "c")) == Place("f.yaml", 3, 6)


def test_depth_is_bounded_at_the_limit():
    assert codes_of("[" * MAX_DEPTH + "]" * MAX_DEPTH) == []
    assert codes_of("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)) == ["YAML-TOO-LARGE"]


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "a:\n" + " " * 1])
def test_hostile_nesting_ends_at_once(opening: str):
    started = time.process_time()
    assert codes_of((opening * 400_000)[:2_000_000]) != []
    assert time.process_time() - started < 5


def test_size_is_bounded():
    assert codes_of(b"#" * (MAX_BYTES + 1)) == ["YAML-TOO-LARGE"]


def test_the_number_of_values_is_bounded():
    assert codes_of("[" + "a," * MAX_VALUES + "]") == ["YAML-TOO-LARGE"]


def test_the_billion_laughs_are_not_laughed():
    rows = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))
    source, problems = parse(("a0: &a0 lol\n" + rows).encode(), "f.yaml")
    assert {problem.code for problem in problems} == {"YAML-ANCHOR"}
    assert source.root is not None
    assert source.root.data is not None


def test_findings_are_bounded_in_number():
    assert len(codes_of("".join(f"k{i}: &x 1\n" for i in range(5_000)))) <= 100


def test_an_open_bracket_names_the_line_where_it_was_opened():
    _, (problem,) = parse(b"a: 1\nb: [1,\nc: 2\n", "f.yaml")
    assert problem.code == "YAML-SYNTAX"
    assert "line 2" in problem.message


def test_a_tab_is_called_a_tab():
    _, (problem,) = parse(b"servers:\n\tnotes: {}\n", "f.yaml")
    assert (problem.code, problem.hint) == ("YAML-SYNTAX", "there is a tab here: YAML is indented with spaces")


yamlish = st.text(alphabet=st.sampled_from(list("ab01.-:#?!&*|>%@`'\"{}[],\n \t\\<~é")), max_size=80)
plain_data = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=["Cc", "Cs"]), max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc-_:0 ", min_size=1, max_size=6), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_tree_or_in_problems(content: bytes):
    source, problems = parse(content, "f.yaml")
    assert source.root is not None or problems


@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow])
@given(yamlish)
def test_any_text_that_looks_like_yaml_ends_in_a_tree_or_in_problems(text: str):
    source, problems = parse(text.encode(), "f.yaml")
    assert source.root is not None or problems
    for problem in problems:
        assert 1 <= problem.line <= len(source.lines)


@settings(max_examples=200)
@given(plain_data)
def test_what_a_writer_writes_is_what_the_reader_reads(value: Data):
    from registry.yaml_writer import write_yaml

    if isinstance(value, dict | list) and value:
        assert data_of(write_yaml(value)) == value


@settings(max_examples=100)
@given(
    st.dictionaries(
        st.text("abc", min_size=1, max_size=3),
        st.integers(0, 9) | st.lists(st.integers(0, 9), max_size=3),
        min_size=1,
        max_size=4,
    )
)
def test_each_node_stands_where_it_is_said_to_stand(value: dict[str, Data]):
    text = yaml.safe_dump(value, default_flow_style=False)
    source, _ = parse(text.encode(), "f.yaml")
    for key, entry in value.items():
        place = source.locate((key,), key=True)
        assert source.lines[place.line - 1][place.col - 1 :].startswith(f"{key}:")
        if isinstance(entry, int):
            spot = source.locate((key,))
            assert source.lines[spot.line - 1][spot.col - 1 :] == str(entry)
