import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.loader import Loaded, load
from registry.models import Fleet, Server
from registry.schema_problems import known_keys
from tests.unit.registry.making import registry_file


def loaded(directory: Path, text: str) -> Loaded:
    return load(registry_file(directory, text))


def fleet_of(found: Loaded) -> Fleet:
    assert found.problems == ()
    assert found.fleet is not None
    return found.fleet


def places(found: Loaded) -> list[tuple[str, int, int]]:
    return [(problem.code, problem.line, problem.col) for problem in found.problems]


def test_names_come_from_the_keys(tmp_path):
    fleet = fleet_of(loaded(tmp_path, "version: 1\nservers: {notes: {}}\nagents: {helper: {}}\n"))
    assert fleet.servers["notes"].name == "notes"
    assert fleet.agents["helper"].name == "helper"


def test_variables_may_be_written_short(tmp_path):
    text = "version: 1\nservers: {a: {env: {TZ: UTC, KEY: {value: env:K, secret: true, description: d, required: false}}}}\nagents: {x: {variables: {V: v}}}\n"
    fleet = fleet_of(loaded(tmp_path, text))
    assert fleet.servers["a"].env["TZ"].value == "UTC"
    assert fleet.servers["a"].env["KEY"].secret is True
    assert fleet.agents["x"].variables["V"].value == "v"


def test_a_variable_that_is_not_text_is_reported_at_its_value(tmp_path):
    assert places(loaded(tmp_path, "version: 1\nservers: {a: {env: {PORT: 80}}}\n")) == [("SCHEMA-TYPE", 2, 27)]


def test_paths_start_at_the_root_files_directory(tmp_path):
    text = (
        "version: 1\naudit: {checkpoint_file: out/checkpoints}\nservers:\n  a:\n    cwd: work\n    source: src/a.py\n"
        "    command: [bin/a, rel/arg]\n    env: {K: file:k, L: file:/abs/l}\n    oauth: {keys: [{kid: k, secret: file:keys/a}]}\n"
        "    headers: [{name: X, value: file:h}]\n    tools: {t: {output_schema: {value: file:stays}}}\n"
    )
    fleet = fleet_of(loaded(tmp_path, text))
    a = fleet.servers["a"]
    assert (a.cwd, a.source, a.command) == (
        f"{tmp_path}/work",
        f"{tmp_path}/src/a.py",
        (f"{tmp_path}/bin/a", "rel/arg"),
    )
    assert (a.env["K"].value, a.env["L"].value) == (f"file:{tmp_path}/k", "file:/abs/l")
    assert a.oauth.keys[0].secret == f"file:{tmp_path}/keys/a"
    assert a.headers[0].value == f"file:{tmp_path}/h"
    assert a.tools["t"].output_schema == {"value": "file:stays"}
    assert fleet.audit.checkpoint_file == f"{tmp_path}/out/checkpoints"


def test_a_program_without_a_slash_is_left_to_the_search_path(tmp_path):
    assert fleet_of(loaded(tmp_path, "version: 1\nservers: {a: {command: [uvx, x]}}\n")).servers["a"].command == (
        "uvx",
        "x",
    )


def test_a_relative_root_file_works_from_anywhere(tmp_path, monkeypatch):
    registry_file(tmp_path, "version: 1\nservers: {a: {cwd: w}}\n")
    monkeypatch.chdir(tmp_path)
    found = load(Path("postern.yaml"))
    assert fleet_of(found).servers["a"].cwd == f"{tmp_path}/w"
    assert found.layout.files == ("postern.yaml",)


def test_includes_add_servers_and_agents_in_the_order_of_their_names(tmp_path):
    registry_file(tmp_path, "servers: {two: {cwd: w}}\n", "servers/b.yaml")
    registry_file(tmp_path, "servers: {one: {}}\nagents: {x: {}}\n", "servers/a.yaml")
    registry_file(tmp_path, "agents: {y: {}}\n", "agents/all.yaml")
    found = loaded(tmp_path, "version: 1\ninclude: [servers/*.yaml, agents/*.yaml]\nservers: {zero: {}}\n")
    fleet = fleet_of(found)
    assert list(fleet.servers) == ["zero", "one", "two"]
    assert list(fleet.agents) == ["x", "y"]
    assert fleet.servers["two"].cwd == f"{tmp_path}/w"
    assert found.layout.place(("servers", "two", "cwd")).file == str(tmp_path / "servers/b.yaml")


def test_an_include_may_be_one_pattern_and_never_takes_a_file_twice(tmp_path):
    registry_file(tmp_path, "servers: {a: {}}\n", "servers/a.yaml")
    assert list(fleet_of(loaded(tmp_path, "version: 1\ninclude: servers/*.yaml\n")).servers) == ["a"]
    assert list(fleet_of(loaded(tmp_path, "version: 1\ninclude: [servers/*.yaml, servers/a.yaml]\n")).servers) == ["a"]


def test_the_root_file_is_not_its_own_include(tmp_path):
    assert fleet_of(loaded(tmp_path, "version: 1\ninclude: ['*.yaml']\nservers: {a: {}}\n")).servers


def test_an_include_is_followed_through_a_symbolic_link(tmp_path):
    registry_file(tmp_path, "servers: {a: {}}\n", "data/a.yaml")
    (tmp_path / "servers").mkdir()
    (tmp_path / "servers/a.yaml").symlink_to("../data/a.yaml")
    assert fleet_of(loaded(tmp_path, "version: 1\ninclude: [servers/*.yaml]\n")).servers


def test_a_name_in_two_files_is_refused_and_both_are_named(tmp_path):
    registry_file(tmp_path, "servers:\n  a: {}\n", "servers/a.yaml")
    (problem,) = loaded(tmp_path, "version: 1\ninclude: [servers/a.yaml]\nservers:\n  a: {}\n").problems
    assert (problem.code, problem.line, problem.col) == ("NAME-DUPLICATE", 2, 3)
    assert problem.file.endswith("servers/a.yaml")
    assert problem.related[0].line == 4
    assert "postern.yaml:4:3" in problem.message


@pytest.mark.parametrize("text", ["proxy: {port: 1}\n", "version: 1\n", "include: [x]\n", "server: {}\n"])
def test_an_included_file_holds_servers_and_agents_only(tmp_path, text: str):
    registry_file(tmp_path, text, "servers/a.yaml")
    assert places(loaded(tmp_path, "version: 1\ninclude: [servers/a.yaml]\n")) == [("SCHEMA-UNKNOWN-KEY", 1, 1)]


@pytest.mark.parametrize("text", ["[]\n", "5\n", "text\n"])
def test_an_included_file_is_a_mapping(tmp_path, text: str):
    registry_file(tmp_path, text, "servers/a.yaml")
    assert places(loaded(tmp_path, "version: 1\ninclude: [servers/a.yaml]\n")) == [("SCHEMA-TYPE", 1, 1)]


@pytest.mark.parametrize("pattern", ["/etc/*.yaml", "../x.yaml", "a/../../x.yaml", "**", "*/x.yaml", "servers/", ""])
def test_a_pattern_does_not_leave_the_directory_or_roam_in_it(tmp_path, pattern: str):
    assert places(loaded(tmp_path, f"version: 1\ninclude: ['{pattern}']\n")) == [("INCLUDE-PATTERN", 2, 11)]


@pytest.mark.parametrize("value", ["5", "{a: b}", "[1]", "[[x]]"])
def test_include_is_a_list_of_texts(tmp_path, value: str):
    assert [code for code, *_ in places(loaded(tmp_path, f"version: 1\ninclude: {value}\n"))] == ["SCHEMA-TYPE"]


def test_all_files_together_hold_a_bounded_number_of_values(tmp_path):
    """Forty files of 16 MiB in all, each within its own limit, would hold eight million values, and fill any memory."""
    for name in "abc":
        registry_file(tmp_path, f"servers: {{{name}: {{cwd: w}}}}\n", f"servers/{name}.yaml")
    root = registry_file(tmp_path, "version: 1\ninclude: [servers/*.yaml]\n")
    assert load(root, max_values=27).fleet
    found = load(root, max_values=22)
    (problem,) = [each for each in found.problems if each.code == "YAML-TOO-LARGE"]
    assert problem.file.endswith("servers/c.yaml")
    assert problem.hint == "include less"


def test_an_unreadable_include_is_reported_where_it_is_included(tmp_path):
    (tmp_path / "servers").mkdir()
    (tmp_path / "servers/a.yaml").symlink_to("nowhere.yaml")
    assert places(loaded(tmp_path, "version: 1\ninclude: [servers/*.yaml]\n")) == [("FILE-UNREADABLE", 2, 11)]


def test_a_missing_root_file_is_a_finding(tmp_path):
    found = load(tmp_path / "none.yaml")
    assert places(found) == [("FILE-UNREADABLE", 1, 1)]
    assert found.draft is None


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["directory", "pipe"])
def test_what_is_not_a_regular_file_is_not_waited_for(tmp_path, make: Callable[[Path], None]):
    path = tmp_path / "postern.yaml"
    make(path)
    assert places(load(path)) == [("FILE-UNREADABLE", 1, 1)]


def test_a_device_without_end_is_not_read():
    assert places(load(Path("/dev/zero"))) == [("FILE-UNREADABLE", 1, 1)]


def test_a_path_with_a_nul_character_is_a_finding():
    assert places(load(Path("a\0b"))) == [("FILE-UNREADABLE", 1, 1)]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("{prot: 1}", "did you mean `port`?"),
        ("{PORT: 1}", "did you mean `port`?"),
        ("{toolz: {}}", "did you mean `tools`?"),
    ],
)
def test_an_unknown_key_has_a_proposal(tmp_path, text: str, hint: str):
    (problem,) = loaded(tmp_path, f"version: 1\nservers: {{a: {text}}}\n").problems
    assert problem.hint == hint


def test_an_unknown_key_that_resembles_nothing_lists_the_known_ones(tmp_path):
    (problem,) = loaded(tmp_path, "version: 1\nfleet: {qqqqqq: 1}\n").problems
    assert problem.hint == "known here: name, mode, ports"


@pytest.mark.parametrize(
    ("pointer", "key"),
    [((), "include"), (("servers", "x"), "port"), (("servers", "x", "oauth", "keys", 0), "kid"), (("servers", "x", "tools", "t", "redact"), "input"), (("proxy", "admin", "jwks"), "url"), (("trusted_proxies", "p", "assertion"), "issuer")],
)  # fmt: skip
def test_known_keys_are_found_at_every_depth(pointer, key: str):
    assert key in known_keys(pointer)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("enabled: no", 'servers.a.enabled: must be true or false, got "no"'),
        ("port: '80'", 'servers.a.port: must be a whole number, got "80"'),
        ("port: 1.5", "servers.a.port: must be a whole number, got 1.5"),
        ("command: ls -l", 'servers.a.command: must be a list, got "ls -l"'),
        ("description: 5", "servers.a.description: must be text, got 5"),
        ("timeouts: {connect_s: true}", "servers.a.timeouts.connect_s: must be a number, got true"),
        ("timeouts: {connect_s: 0}", "servers.a.timeouts.connect_s: must be greater than 0, got 0"),
        ("oauth:", "servers.a.oauth: must be a mapping, got nothing"),
        ("oauth: {algorithms: [none]}", 'servers.a.oauth.algorithms[0]: must be one of HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, got "none"'),
    ],
)  # fmt: skip
def test_a_wrong_type_says_what_is_expected_and_what_was_found(tmp_path, text: str, message: str):
    (problem,) = loaded(tmp_path, f"version: 1\nservers:\n  a:\n    {text}\n").problems
    assert problem.message == message


def test_a_value_that_may_be_a_secret_is_not_echoed(tmp_path):
    (problem,) = loaded(tmp_path, "version: 1\nservers:\n  a: {headers: [{name: X, value: 12345678}]}\n").problems
    assert "12345678" not in problem.message + problem.excerpt


def test_a_missing_version_is_reported_with_everything_else(tmp_path):
    found = loaded(tmp_path, "servers: {a: {prt: 1}}\n")
    assert [code for code, *_ in places(found)] == ["SCHEMA-MISSING", "SCHEMA-UNKNOWN-KEY"]


def test_the_draft_keeps_what_is_usable(tmp_path):
    found = loaded(tmp_path, "version: 1\nservers:\n  a: {port: x, display_name: A}\n  b: 7\n  c: {}\n")
    assert found.fleet is None
    assert found.draft is not None
    assert list(found.draft.servers) == ["a", "c"]
    assert found.draft.servers["a"] == Server(name="a", display_name="A")


json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 70000)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["a", "", "env:X", "file:x", "no", "*"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "name",
                    "port",
                    "oauth",
                    "keys",
                    "kid",
                    "secret",
                    "tools",
                    "scopes",
                    "env",
                    "command",
                    "servers",
                    "ports",
                    "first",
                    "last",
                    "headers",
                    "value",
                    "url",
                    "zz",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
TOP = [
    "version",
    "fleet",
    "proxy",
    "audit",
    "permissions",
    "trusted_proxies",
    "hooks",
    "servers",
    "agents",
    "include",
    "zz",
]


@settings(
    max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(
    st.dictionaries(
        st.sampled_from(TOP),
        json_like | st.dictionaries(st.sampled_from(["a", "b", "My"]), json_like, max_size=2),
        max_size=4,
    )
)
def test_any_document_ends_in_a_fleet_or_in_problems(tmp_path, document: dict[str, object]):
    from registry.gate import check
    from registry.problems import render_json, render_sarif, render_text
    from registry.yaml_writer import write_yaml
    from tests.unit.registry.making import ENVIRON, NOW

    path = registry_file(tmp_path, write_yaml(document))  # pyright: ignore[reportArgumentType]
    result = check(path, environ=ENVIRON, now=NOW)
    assert (result.fleet is None) == bool(result.problems)
    for render in (render_text, render_json, render_sarif):
        render(result.problems)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=120))
def test_any_bytes_after_a_good_start_are_let_pass_or_refused(tmp_path, rest: bytes):
    path = tmp_path / "postern.yaml"
    path.write_bytes(b"version: 1\nservers:\n  a: {}\n" + rest)
    found = load(path)
    assert (found.fleet is None) == bool(found.problems)
