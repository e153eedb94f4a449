import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.importers import FoundServer, ImportFileError, read_import
from registry.importers.found import FoundSecret, dns_label
from registry.importers.section import distinct_names, fill_inputs, propose
from registry.yaml_writer import write_yaml
from tests.unit.registry.making import ENVIRON, gate

FIXTURES = Path(__file__).parent / "fixtures"


def imported(name: str) -> dict[str, FoundServer]:
    found = read_import((FIXTURES / name).read_bytes())
    return {server.name: server for server in distinct_names(found, frozenset())}


def test_claude_desktop():
    servers = imported("claude_desktop_config.json")
    assert set(servers) == {"file-system", "github"}
    files = servers["file-system"]
    assert files.display_name == "File System"
    assert files.command_line == "npx -y @modelcontextprotocol/server-filesystem '/srv/shared files'"
    assert servers["github"].env == {"GITHUB_TOKEN": FoundSecret("GITHUB_TOKEN", None, "ghp_not-a-real-token")}


def test_claude_code():
    servers = imported("claude_code.mcp.json")
    db, sentry, old = servers["db"], servers["sentry"], servers["old"]
    assert db.inputs == ("DATABASE_DSN:-postgres://localhost",)
    assert db.env["DB_PASSWORD"] == FoundSecret("DB_PASSWORD", "DB_PASSWORD")
    assert db.env["LEVEL"] == FoundSecret("LEVEL", None, "info")
    assert sentry.endpoint == "https://mcp.sentry.dev/mcp"
    assert sentry.headers["Authorization"] == FoundSecret("Authorization", None, "Bearer ${SENTRY_TOKEN}")
    assert set(sentry.extra) == {"oauth"}
    assert "SSE" in old.notes[0]


def test_vs_code_with_comments_and_trailing_commas():
    servers = imported("vscode.mcp.json")
    perplexity = servers["perplexity"]
    assert perplexity.command == ("npx", "-y", "server-perplexity-ask", "--root=${workspaceFolder}")
    assert perplexity.inputs == ("workspaceFolder",)
    assert perplexity.env["PERPLEXITY_API_KEY"] == FoundSecret("PERPLEXITY_API_KEY", None, "${input:api-key}")
    assert any("envFile" in note for note in perplexity.notes)
    assert servers["docs"].endpoint == "https://learn.example.com/api/mcp"
    assert any("not supported" in note for note in servers["pipe"].notes)


def test_cursor():
    servers = imported("cursor.mcp.json")
    assert servers["linear"].headers["Authorization"] == FoundSecret("Authorization", "LINEAR_TOKEN")
    assert servers["local"].command == ("node", "server.js", "--api-key", "${api-key}", "3")
    assert servers["local"].inputs == ("api-key",)
    assert any("looks like a secret" in note for note in servers["local"].notes)


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["--token", "hunter2"], ["--token", "${token}"]),
        (["--api-key=hunter2", "x"], ["--api-key=${api-key}", "x"]),
        (["-pass", "hunter2", "--secret", "--verbose"], ["-pass", "${pass}", "--secret", "--verbose"]),
        (["postgres://u:hunter2@db/x"], ["${argument-1}"]),
        (["-H", "Authorization: Bearer hunter2"], ["-H", "${argument-2}"]),
        (["--max-tokens", "5", "--token", "${TOKEN}"], ["--max-tokens", "5", "--token", "${TOKEN}"]),
    ],
)
def test_an_argument_that_looks_like_a_secret_reaches_no_file(words: list[str], kept: list[str]):
    (server,) = read_import(json.dumps({"x": {"command": "a", "args": words}}).encode())
    assert list(server.command) == ["a", *kept]
    assert "hunter2" not in write_yaml(propose(server, 5001, in_store=False).section)


def test_a_secret_argument_of_the_official_file_is_asked_for():
    package = {
        "registryType": "npm", "identifier": "x", "packageArguments": [
            {"type": "positional", "valueHint": "key", "value": "hunter2", "isSecret": True, "isRequired": True},
            {"type": "named", "name": "--at", "value": "{where}", "variables": {"where": {"value": "hunter2", "isSecret": True}}},
        ],
    }  # fmt: skip
    (server,) = read_import(json.dumps({"name": "a/x", "packages": [package]}).encode())
    assert server.command == ("npx", "-y", "x", "${key}", "--at", "${where}")
    assert server.inputs == ("key", "where")


def test_the_official_registrys_file():
    servers = imported("server.json")
    npm, pypi, oci, remote = (servers[name] for name in ("weather", "weather-2", "weather-3", "weather-4"))
    assert npm.command_line == (
        "npx -y --silent @example/weather-mcp@1.2.3 serve --units metric --region '${region}' '${city}' --template '{unknown}'"
    )
    assert npm.inputs == ("region", "city")
    assert npm.env == {"WEATHER_API_KEY": FoundSecret("WEATHER_API_KEY"), "LOG_LEVEL": "info"}
    assert (npm.display_name, npm.description) == ("Weather", "Forecasts for any place.")
    assert pypi.command == ("uvx", "weather-mcp==1.2.3", "--port", "{port}")
    assert (pypi.transport, pypi.path, pypi.inputs) == ("http", "/weather", ())
    assert oci.command == ("docker", "run", "-i", "--rm", "-e", "WEATHER_API_KEY", "ghcr.io/example/weather:1.2.3")
    assert (remote.endpoint, remote.inputs) == ("https://${tenant}.weather.example/mcp", ("tenant",))
    assert remote.headers == {"X-Api-Key": FoundSecret("X-Api-Key")}


def test_an_old_server_json_in_the_wrapping_of_the_api():
    (old,) = imported("server_old.json").values()
    assert old.command == ("dnx", "Example.Mcp@0.1.0", "--yes", "mcp")
    assert old.env == {"TOKEN": FoundSecret("TOKEN")}


@pytest.mark.parametrize(
    ("document", "name"),
    [
        ({"mcp": {"servers": {"x": {"command": "a"}}}}, "x"),
        ({"x": {"command": "a"}, "version": 1}, "x"),
        ({"mcpServers": [{"name": "x", "command": "a"}]}, "x"),
        ({"mcpServers": {"x": {"serverUrl": "https://a.example"}}}, "x"),
        ({"mcpServers": {"x": {"httpUrl": "https://a.example"}}}, "x"),
    ],
)
def test_relatives_of_these_formats(document: object, name: str):
    assert [server.name for server in read_import(json.dumps(document).encode())] == [name]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"5", b"\xff", b"{}", b'{"mcpServers": {}}', b'{"mcpServers": {"x": {}}}', b'{"mcpServers": {"x": 5}}',
        b'{"mcpServers": {"x": {"command": ["a"]}}}', b'{"x": {"command": "a", "args": "b"}}', b'{"x": {"command": "a", "args": [{}]}}',
        b'{"x": {"command": "a", "env": []}}', b'{"x": {"command": "a", "env": {"A": {}}}}', b'{"a":' * 100_000, b'{"a":' * 400 + b"1" + b"}" * 400,
        b'{"name": "a/b", "packages": []}', b'{"name": "a/b", "packages": [{"registryType": "npm"}]}', b" " * 2_000_000, b'{"a": ' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
def test_what_cannot_be_imported_is_refused_with_a_reason(content: bytes):
    with pytest.raises(ImportFileError) as raised:
        read_import(content)
    assert str(raised.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["npm", "pypi", "stdio", "${X}", "{port}", "https://x.example"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["mcpServers", "servers", "name", "packages", "remotes", "command", "args", "env", "url", "headers", "registryType", "identifier", "transport", "type", "packageArguments", "environmentVariables", "value", "variables", "x"]), inner, max_size=5),
    max_leaves=15,
)  # fmt: skip


@given(json_values)
def test_any_json_is_imported_or_refused(value: object):
    try:
        found = read_import(json.dumps(value).encode())
    except ImportFileError:
        return
    for server in distinct_names(found, frozenset()):
        write_yaml({"servers": {server.name: propose(server, 5001, in_store=False).section}})


@given(st.binary(max_size=60))
def test_any_bytes_are_imported_or_refused(content: bytes):
    try:
        read_import(b'{"x": {"command": "a"' + content)
    except ImportFileError:
        return


@pytest.mark.parametrize("fixture", [path.name for path in sorted(FIXTURES.glob("*.json"))])
@pytest.mark.parametrize("in_store", [False, True])
def test_a_proposal_holds_references_and_no_secret(fixture: str, in_store: bool):
    for port, server in enumerate(imported(fixture).values(), start=5001):
        proposal = propose(server, port, in_store=in_store)
        text = write_yaml({proposal.name: proposal.section})
        for secret in proposal.secrets.values():
            assert secret.text is None or f": {secret.text}" not in text
            assert repr(secret.text) not in repr(secret) or secret.text is None
        assert all(reference.startswith(("env:", "store:")) for reference in proposal.secrets)


@pytest.mark.parametrize("fixture", ["claude_desktop_config.json", "cursor.mcp.json", "server.json"])
def test_what_is_imported_passes_the_gate_once_its_secrets_are_set(fixture: str, tmp_path):
    sections, environ = {}, dict(ENVIRON)
    for port, server in enumerate(imported(fixture).values(), start=5001):
        proposal = propose(server, port, in_store=False)
        sections[proposal.name] = proposal.section
        environ |= {ref.removeprefix("env:"): f"{ref:-<40}" for ref in proposal.secrets}
    result = gate(tmp_path, write_yaml({"version": 1, "servers": sections}), environ=environ)
    assert {problem.code for problem in result.problems} <= {"COMMAND-NOT-FOUND"}, result.problems


def test_a_server_with_a_gap_is_off_until_it_is_filled():
    server = imported("server.json")["weather"]
    assert propose(server, 5001, in_store=False).section["enabled"] is False
    filled = fill_inputs(server, {"region": "eu", "city": "Bern"})
    assert filled.inputs == ()
    assert "enabled" not in propose(filled, 5001, in_store=False).section
    assert filled.command[-4:] == ("eu", "Bern", "--template", "{unknown}")


@pytest.mark.parametrize(
    ("text", "label"),
    [("io.github.x/My Server", "my-server"), ("--A__b--", "a-b"), ("日本", "server"), ("x" * 80, "x" * 63)],
)
def test_names_become_labels(text: str, label: str):
    assert dns_label(text) == label


def test_names_that_are_taken_get_a_number():
    (server,) = read_import(b'{"notes": {"command": "a"}}')
    assert [s.name for s in distinct_names((server, server), frozenset({"notes"}))] == ["notes-2", "notes-3"]
