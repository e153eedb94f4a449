import json
from pathlib import Path

import pytest

from registry.models import Fleet
from registry.service import Caller, Changes, RefusedError, Registry, diff, section_hash
from tests.unit.registry.making import ENVIRON, GOOD, OAUTH_A, OAUTH_B, registry_file

TEXT = f"""\
version: 1
fleet: {{mode: dev}}
permissions: {{implies: {{"a:admin": ["a:use", "a:read"]}}}}
servers:
  a:
    {{{GOOD}, port: 5001, {OAUTH_A}, env: {{TOKEN: {{value: "hunter2-in-dev", secret: true}}}},
     tools: {{read: {{scopes: [a:read], output_schema: {{type: object}}}}, either: {{any_of: [[x], [a:read]]}}, free: {{}}}}}}
  b: {{{GOOD}, port: 5002, {OAUTH_B}, dev_only: true, tools: {{"*": {{}}}}}}
  off: {{enabled: false}}
  r: {{display_name: R, description: r, type: external, endpoint: https://example.com/mcp, oauth: {{required: false}}}}
agents:
  reader: {{subjects: [ada], servers: {{a: {{tools: [read]}}, b: {{tools: [sum]}}}}}}
  all: {{clients: [cli], servers: {{a: {{tools: ["*"]}}, b: {{tools: ["*"]}}}}}}
"""


def registry(directory: Path, text: str = TEXT) -> Registry:
    return Registry.load(registry_file(directory, text), ENVIRON)


def test_it_lists_and_finds_what_exists_now(tmp_path):
    service = registry(tmp_path)
    assert [server.name for server in service.list()] == ["a", "b", "r"]
    assert service.exists("a")
    assert not service.exists("off")
    assert not service.exists("nobody")
    assert service.find("r") is service.fleet.servers["r"]
    assert service.find("off") is None


def test_in_the_cloud_what_is_for_development_does_not_exist(tmp_path):
    service = registry(tmp_path, TEXT.replace("mode: dev", "mode: cloud").replace('"hunter2-in-dev"', "env:KEY_C"))
    assert [server.name for server in service.list()] == ["a", "r"]
    assert [view["name"] for view in service.describe()["servers"]] == ["a", "r"]  # pyright: ignore[reportGeneralTypeIssues, reportUnknownVariableType, reportIndexIssue]


def test_a_refused_file_says_every_problem(tmp_path):
    with pytest.raises(RefusedError) as raised:
        registry(tmp_path, TEXT.replace("5002", "5001").replace("version: 1", "version: 2"))
    assert {problem.code for problem in raised.value.problems} == {"PORT-CONFLICT", "SCHEMA-CHOICE"}


def test_it_tells_names_and_never_values(tmp_path):
    service = registry(tmp_path)
    text = json.dumps(service.describe()) + json.dumps(service.external("a"))
    assert "TOKEN" in text
    for hidden in ("hunter2", "env:KEY_A", "KEY_A", ENVIRON["KEY_A"]):
        assert hidden not in text


def test_a_description_has_what_the_specification_asks_for(tmp_path):
    (a, *_) = json.loads(json.dumps(registry(tmp_path).describe()))["servers"]
    assert (a["name"], a["type"], a["port"], a["endpoint"]) == ("a", "internal", 5001, None)
    assert a["oauth"]["scopes"] == ["a:use"]
    assert a["oauth"]["keys"] == [{"kid": "k1", "not_after": None}]
    assert a["tools"]["read"] == {"scopes": ["a:read"], "output_schema": {"type": "object"}}
    assert a["variables"] == [{"name": "TOKEN", "description": "", "secret": True, "required": True}]


def test_an_outsider_learns_the_address_and_not_the_command(tmp_path):
    view = registry(tmp_path).external("a")
    assert view is not None
    assert view["url"] == "http://127.0.0.1:8080/a/mcp"
    assert not {"command", "port", "variables"} & set(view)
    assert registry(tmp_path).external("off") is None


def test_tools_of_one_server_and_of_all(tmp_path):
    service = registry(tmp_path)
    assert [(t.server, t.name) for t in service.tools("a")] == [("a", "read"), ("a", "either"), ("a", "free")]
    assert len(service.tools()) == 4
    assert service.tools("nobody") == ()


@pytest.mark.parametrize(
    ("caller", "names"),
    [
        (Caller(), []),
        (Caller(frozenset({"a:use"})), ["a.free"]),
        (Caller(frozenset({"a:use", "x"})), ["a.either", "a.free"]),
        (Caller(frozenset({"a:admin"})), ["a.read", "a.either", "a.free"]),
        (Caller(frozenset({"a:read"})), []),
        (Caller(frozenset({"b:use"})), ["b.*"]),
        (Caller(frozenset({"a:admin", "b:use"}), subject="ada"), ["a.read", "b.sum"]),
        (Caller(frozenset({"a:admin", "b:use"}), client="cli"), ["a.read", "a.either", "a.free", "b.*"]),
        (Caller(frozenset({"a:admin", "b:use"}), "ada", "cli"), ["a.read", "b.sum"]),
        (Caller(frozenset({"a:admin"}), subject="somebody"), ["a.read", "a.either", "a.free"]),
    ],
)
def test_tools_for_a_caller_are_those_its_scopes_and_agents_reach(caller: Caller, names: list[str], tmp_path):
    assert [f"{t.server}.{t.name}" for t in registry(tmp_path).tools_for(caller)] == names


def test_a_reload_that_changes_one_server_names_only_that_one(tmp_path):
    service = registry(tmp_path)
    before = {name: section_hash(service.fleet, service.fleet.servers[name]) for name in ("a", "b", "r")}
    registry_file(tmp_path, TEXT.replace("5002", "5003"))
    reload = service.reload()
    assert reload.changes == Changes(changed=("b",))
    assert service.fleet.servers["b"].port == 5003
    after = {name: section_hash(service.fleet, service.fleet.servers[name]) for name in ("a", "b", "r")}
    assert [name for name in before if before[name] != after[name]] == ["b"]


def test_a_rotated_key_of_one_server_touches_no_other(tmp_path):
    service = registry(tmp_path)
    registry_file(
        tmp_path,
        TEXT.replace("[{kid: k1, secret: env:KEY_A}]", "[{kid: k2, secret: env:KEY_D}, {kid: k1, secret: env:KEY_A}]"),
    )
    assert service.reload().changes == Changes(changed=("a",))


def test_servers_come_and_go(tmp_path):
    service = registry(tmp_path)
    registry_file(
        tmp_path,
        TEXT.replace("  off: {enabled: false}\n", "")
        .replace("  r:", "  s:")
        .replace("dev_only: true", "dev_only: true, enabled: false"),
    )
    assert service.reload().changes == Changes(added=("s",), removed=("b", "r"))


def test_a_bad_reload_leaves_the_fleet_alone_and_is_visible(tmp_path):
    service = registry(tmp_path)
    running = service.fleet
    registry_file(tmp_path, TEXT.replace("5002", "5001"))
    reload = service.reload()
    assert reload.changes is None
    assert [problem.code for problem in reload.problems] == ["PORT-CONFLICT"]
    assert service.fleet is running
    assert service.problems == reload.problems
    registry_file(tmp_path, TEXT)
    assert not service.reload().changes
    assert service.problems == ()


def test_what_concerns_every_server_is_named_by_its_section(tmp_path):
    service = registry(tmp_path)
    registry_file(tmp_path, TEXT.replace("mode: dev", "mode: dev, name: other"))
    assert service.reload().changes == Changes(global_changed=("fleet",))
    registry_file(tmp_path, TEXT + "proxy: {public_url: https://mcp.example.com}\n")
    changes = service.reload().changes
    assert changes is not None
    assert set(changes.changed) == {"a", "b", "r"}


def test_equal_fleets_do_not_differ():
    assert not diff(Fleet(version=1), Fleet(version=1))
