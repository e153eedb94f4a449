import pytest

from registry.gate import check
from tests.unit.registry.cases import CASES, RAW_CASES, servers
from tests.unit.registry.making import ENVIRON, GOOD, NOW, OAUTH_B, A, B, expected, gate, registry_file, reported


@pytest.mark.parametrize("code", CASES)
def test_each_finding_stands_at_its_line_and_there_is_no_other(code: str, tmp_path):
    text = CASES[code]
    path = registry_file(tmp_path, text)
    path.chmod(0o644)
    result = check(path, environ=ENVIRON, now=NOW)
    assert reported(result) == expected(text), "\n".join(str(p) for p in result.problems)
    assert code in {problem.code for problem in result.problems}
    assert result.fleet is None
    assert not result.ok


@pytest.mark.parametrize("code", RAW_CASES)
def test_each_finding_about_a_whole_file_has_its_line(code: str, tmp_path):
    content, line = RAW_CASES[code]
    path = tmp_path / "postern.yaml"
    path.write_bytes(content)
    problems = check(path, environ=ENVIRON, now=NOW).problems
    assert (code, line) in {(problem.code, problem.line) for problem in problems}


@pytest.mark.parametrize("name", ["all", "supervisord", "postern-fleet"])
def test_a_name_under_which_operators_and_supervisord_know_something_else_is_refused(name: str, tmp_path):
    """`fleet stop all` stops every server; a server `supervisord` would write into supervisord's own log."""
    problems = gate(tmp_path, servers(f"{name}: {{{A}}}")).problems
    assert [problem.code for problem in problems] == ["NAME-RESERVED"]


def test_every_finding_has_a_hint(tmp_path):
    for code, text in CASES.items():
        for problem in gate(tmp_path, text).problems:
            assert problem.hint or problem.code.startswith("SCHEMA-"), code


def test_a_right_file_passes(tmp_path):
    result = gate(tmp_path, f"version: 1\nservers:\n  a: {{{A}}}\n")
    assert result.ok, result.problems
    assert result.fleet is not None
    assert result.fleet.servers["a"].port == 5001


def test_a_disabled_server_only_has_to_be_well_formed(tmp_path):
    text = "version: 1\nservers:\n  a: {enabled: false, port: 80, endpoint: nonsense}\n"
    assert gate(tmp_path, text).ok


def test_a_disabled_server_with_an_unknown_key_is_still_refused(tmp_path):
    assert not gate(tmp_path, "version: 1\nservers:\n  a: {enabled: false, prt: 80}\n").ok


def test_what_runs_only_in_development_is_not_asked_for_in_the_cloud(tmp_path):
    text = "version: 1\nfleet: {mode: cloud}\nservers:\n  a: {dev_only: true, port: 80}\n"
    assert gate(tmp_path, text).ok
    assert not gate(tmp_path, text.replace("cloud", "dev")).ok


def test_one_wrong_server_stops_all(tmp_path):
    text = f"version: 1\nservers:\n  a: {{{A}}}\n  b: {{port: 5001}}\n"
    assert gate(tmp_path, text).fleet is None


def test_ports_of_the_proxy_and_of_a_server_may_not_be_one(tmp_path):
    text = f"version: 1\nproxy: {{port: 5001}}\nservers:\n  a: {{{A}}}\n"
    (problem,) = gate(tmp_path, text).problems
    assert (problem.code, problem.line) == ("PORT-CONFLICT", 4)
    assert "proxy.port" in problem.message
    assert problem.related[0].line == 2


def test_both_places_of_a_conflict_are_named(tmp_path):
    text = f"version: 1\nservers:\n  a:\n    {{{A}}}\n  b: {{{GOOD}, port: 5001, {OAUTH_B}}}\n"
    (problem,) = gate(tmp_path, text).problems
    assert f"servers.a ({problem.file}:4:" in problem.message
    assert [place.line for place in problem.related] == [4]


def test_without_the_host_files_programs_and_secrets_are_left_out(tmp_path):
    for code in ("SOURCE-MISSING", "COMMAND-NOT-FOUND", "SECRET-UNRESOLVED", "VARIABLE-UNRESOLVED", "KEY-SHORT"):
        assert gate(tmp_path, CASES[code], on_host=False).ok, code


def test_a_sidecar_needs_the_secrets_of_its_own_server_only(tmp_path):
    text = f"version: 1\nservers:\n  a: {{{A}}}\n  b: {{{B.replace('KEY_B', 'NOT_HERE')}}}\n"
    path = registry_file(tmp_path, text)
    assert check(path, environ=ENVIRON, now=NOW, only="a").ok
    assert [p.code for p in check(path, environ=ENVIRON, now=NOW, only="b").problems] == ["SECRET-UNRESOLVED"]
    path.write_text(text.replace("5002", "5001"), encoding="utf-8")
    assert [p.code for p in check(path, environ=ENVIRON, now=NOW, only="a").problems] == ["PORT-CONFLICT"]


def test_a_wrong_value_is_reported_once_and_hides_nothing_beside_it(tmp_path):
    text = "version: 1\nservers:\n  a:\n    port: eighty #! SCHEMA-TYPE\n    displayname: A #! SCHEMA-UNKNOWN-KEY\n    command: [sh]\n    description: '' #! DESCRIPTION-EMPTY\n    oauth: {required: false}\n"
    assert reported(gate(tmp_path, text)) == expected(text)


def test_a_broken_server_is_not_unknown_to_agents(tmp_path):
    text = "version: 1\nservers:\n  a: 5 #! SCHEMA-TYPE\nagents:\n  x: {subjects: [x], servers: {a: {tools: [t]}}}\n"
    assert reported(gate(tmp_path, text)) == expected(text)


def test_a_wildcard_covers_tools_and_resources_that_agents_name(tmp_path):
    text = (
        f"version: 1\nservers:\n  a: {{{A}, tools: {{'*': {{}}}}, resources: {{'notes://public/*': {{}}}}}}\n"
        "agents:\n  x: {subjects: [x], servers: {a: {tools: [any, '*'], resources: ['notes://public/1']}}}\n"
    )
    assert gate(tmp_path, text).ok
    outside = text.replace("['notes://public/1']", "['notes://private/1']")
    assert [p.code for p in gate(tmp_path, outside).problems] == ["AGENT-TOOL-UNKNOWN"]


def test_a_secret_that_the_proxy_cannot_use_as_text_is_found_by_the_gate(tmp_path):
    key = tmp_path / "key"
    key.write_bytes(b"\xff" * 48)
    key.chmod(0o600)
    text = f"version: 1\nservers:\n  a: {{{A.replace('env:KEY_A', 'file:key')}}}\n"
    (problem,) = gate(tmp_path, text).problems
    assert (problem.code, problem.line) == ("SECRET-UNRESOLVED", 3)
    assert "base64" in problem.hint


@pytest.mark.parametrize("length", [31, 32])
def test_a_key_for_hs256_needs_thirty_two_bytes(length: int, tmp_path):
    environ = {**ENVIRON, "KEY_A": "k" * length}
    result = gate(tmp_path, f"version: 1\nservers:\n  a: {{{A}}}\n", environ=environ)
    assert result.ok == (length == 32)


def test_a_shared_key_is_found_behind_two_names(tmp_path):
    environ = {**ENVIRON, "KEY_B": ENVIRON["KEY_A"]}
    result = gate(tmp_path, f"version: 1\nservers:\n  a: {{{A}}}\n  b: {{{B}}}\n", environ=environ)
    assert [problem.code for problem in result.problems] == ["KEY-SHARED"]


def test_a_scope_nobody_can_bring_is_named_for_a_server_without_keys(tmp_path):
    text = "version: 1\nservers:\n  a: {display_name: A, description: d, command: [sh], port: 5001, oauth: {required: false}, tools: {t: {\n    scopes: [a:read]}}} #! SCOPE-UNSATISFIABLE\n"
    assert reported(gate(tmp_path, text)) == expected(text)


def test_a_trusted_proxys_ceiling_bounds_what_can_be_satisfied(tmp_path):
    text = (
        "version: 1\npermissions: {implies: {n:write: [n:read]}}\n"
        "trusted_proxies:\n  sso: {servers: [a], permissions: [n:write], keys: [{kid: k, algorithm: hmac-sha256, secret: env:KEY_C}]}\n"
        "servers:\n  a: {display_name: A, description: d, command: [sh], port: 5001, oauth: {scopes: [n:read]}, tools: {\n"
        "    r: {scopes: [n:write]},\n    w: {scopes: [n:admin]}}} #! SCOPE-UNSATISFIABLE\n"
    )
    assert reported(gate(tmp_path, text)) == expected(text)


def test_in_development_a_literal_key_is_allowed(tmp_path):
    text = (
        "version: 1\nservers:\n  a: {display_name: A, description: d, command: [sh], port: 5001, oauth: {scopes: [x], keys: [{kid: k, secret: "
        + "x" * 32
        + "}]}}\n"
    )
    assert gate(tmp_path, text).ok


def test_a_literal_secret_of_a_disabled_server_is_still_a_secret_in_a_file(tmp_path):
    text = "version: 1\nfleet: {mode: cloud}\nservers:\n  a: {enabled: false, headers: [{name: X, value: hunter2}]} #! SECRET-LITERAL\n"
    assert reported(gate(tmp_path, text)) == expected(text)


SPELLINGS = [
    "oauth: {keys: [{kid: k, secret: hunter2hunter2}]}",
    'oauth: {"keys":[{"kid":"k","secret":"hunter2hunter2"}]}',
    "oauth:\n      keys:\n        - kid: k\n          secret:\n            hunter2hunter2",
    "oauth: {keys: [{kid: k, secret: [hunter2hunter2], zz: 1}]}",
    "oauth: {keys: [{kid: k, sceret: hunter2hunter2}]}",
    "oauth: {keys: [{zz: 1, kid: k, sceret: hunter2hunter2, zzz: 1}]}",
    "oauth: {keys: [{kid: k, zz: 1, secret: 'a\n      hunter2hunter2', zzz: 1}]}",
    "headers: [{name: X, value: hunter2hunter2}]",
    "headers: [{name: X, valeu: hunter2hunter2}]",
    "env: {PGURL: {value: 'postgres://u:hunter2hunter2@h/d', secret: true, zz: 1}}",
    "env: {DB-PW: hunter2hunter2}",
    "env: [DB_PW=hunter2hunter2]",
    "env:\n      A: &x hunter2hunter2",
    "env: {PIN: 0123456789, PIN: hunter2hunter2}",
    "tables: [{name: t, database: 'postgresql://u:hunter2hunter2@h/d', zz: 1}]",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_secret_is_not_shown_however_it_is_written(spelling: str, tmp_path):
    from registry.problems import render_json, render_sarif, render_text

    head = "version: 1\nfleet: {mode: cloud}\nservers:\n  a:\n    enabled: false\n"
    problems = gate(tmp_path, f"{head}    {spelling}\n").problems
    assert problems
    for render in (render_text, render_json, render_sarif):
        assert "hunter2" not in render(problems)
        assert "0123456789" not in render(problems)


def test_no_message_and_no_excerpt_shows_a_secret(tmp_path):
    text = "version: 1\nfleet: {mode: cloud}\nservers:\n  a:\n    enabled: false\n    oauth:\n      keys:\n        - {kid: k, secret: hunter2hunter2}\n        - kid: l\n          secret: hunter2hunter2\n    env: {API_TOKEN: {value: hunter2hunter2, secret: true}, PASSWORD: 5}\n"
    from registry.problems import render_json, render_sarif, render_text

    problems = gate(tmp_path, text).problems
    assert {p.code for p in problems} == {"SECRET-LITERAL", "SCHEMA-TYPE"}
    for render in (render_text, render_json, render_sarif):
        assert "hunter2" not in render(problems)
