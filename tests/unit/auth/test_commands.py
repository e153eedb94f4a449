"""`postern sign` and `postern explain`, as they are called."""

import json
from pathlib import Path
from time import time

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy.auth.assertion import Presented
from proxy.auth.bearer import ServerAuth
from proxy.auth.identity import Authenticated
from proxy.auth.sign_cli import command as sign
from proxy.auth.token_cli import command as issue
from proxy.explain_cli import command as explain
from registry.loader import load
from tests.unit.auth.making import Literal, UsedNonces

SECRET = "notes-secret-notes-secret-notes-00"
PROXY_SECRET = "proxy-secret-proxy-secret-proxy-00"
REGISTRY = """\
version: 1
permissions: {implies: {notes:write: [notes:read]}}
trusted_proxies:
  edge:
    keys:
      - {kid: edge-1, algorithm: hmac-sha256, secret: PROXY_SECRET}
      - {kid: edge-2, algorithm: ed25519, public_key: PUBLIC_KEY}
    servers: [notes]
    permissions: [notes:write]
  mesh:
    scheme: rfc9421
    keys: [{kid: mesh-1, algorithm: hmac-sha256, secret: MESH_SECRET}]
    servers: [notes]
    permissions: [notes:read]
servers:
  notes:
    display_name: Notes
    description: Notes
    type: external
    endpoint: http://127.0.0.1:9/mcp
    oauth:
      scopes: [notes:read]
      keys: [{kid: n1, secret: NOTES_SECRET}]
    tools:
      read: {}
      write: {scopes: [notes:write]}
    prompts: {summary: {}}
    resources: {"notes://public/*": {}}
agents:
  reader: {subjects: [bot], servers: {notes: {tools: [read]}}}
"""
PRIVATE = Ed25519PrivateKey.generate()


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    from base64 import b64encode

    public = b64encode(PRIVATE.public_key().public_bytes_raw()).decode()
    values = {
        "NOTES_SECRET": SECRET,
        "PROXY_SECRET": PROXY_SECRET,
        "MESH_SECRET": "mesh-" * 8,
        "PUBLIC_KEY": public,
    }
    text = REGISTRY
    for name, value in values.items():
        text = text.replace(name, value)
    file = tmp_path / "postern.yaml"
    file.write_text(text)
    pem = PRIVATE.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "edge.pem").write_bytes(pem)
    (tmp_path / "body.json").write_bytes(b'{"id":1}')
    return file


def run(command, registry: Path, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(command, ["--registry", str(registry), *arguments], input=stdin)


@pytest.mark.parametrize(
    "chosen", [[], ["--kid", "edge-1"], ["--kid", "edge-2", "--key", "edge.pem"], ["--scheme", "rfc9421"]]
)
async def test_what_postern_sign_prints_is_believed(registry: Path, chosen: list[str], monkeypatch):
    monkeypatch.chdir(registry.parent)
    permission = ["--permission", "notes:read"]
    done = run(sign, registry, "--server", "notes", "--user", "alice", *permission, "--body", "body.json", *chosen)
    assert done.exit_code == 0, done.output
    lines = [line.partition(": ") for line in done.stdout.splitlines()]
    headers = [(name.encode(), value.encode()) for name, _, value in lines]
    fleet = load(registry).fleet
    assert fleet is not None
    door = ServerAuth.build(fleet, fleet.servers["notes"], Literal(), UsedNonces())
    found = await door.authenticate(headers, time(), Presented("POST", "/notes/mcp", b"", headers, b'{"id":1}'))
    assert isinstance(found, Authenticated), found
    assert (found.subject, found.scopes) == ("alice", {"notes:read"})


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--server", "nope", "--user", "a"], "there are: notes"),
        (["--server", "notes", "--user", "a", "--kid", "nope"], "no trusted proxy has a key 'nope'"),
        (["--server", "notes", "--user", "a", "--kid", "edge-2"], "--key"),
        (["--server", "notes", "--user", "a\nb"], "control character"),
    ],
)
def test_what_cannot_be_signed_is_said(registry: Path, arguments: list[str], why: str):
    done = run(sign, registry, *arguments)
    assert (done.exit_code, done.stdout) == (1, "")
    assert why in done.output
    assert PROXY_SECRET not in done.output


@pytest.mark.parametrize(
    ("arguments", "code", "decision"),
    [
        (["--tool", "read", "--scope", "notes:write"], 0, "authz.allowed"),
        (["--tool", "write", "--scope", "notes:read"], 1, "authz.scope"),
        (["--tool", "nope", "--scope", "notes:write"], 1, "authz.unknown_tool"),
        (["--prompt", "summary", "--scope", "notes:read"], 0, "authz.allowed"),
        (["--resource", "notes://public/a", "--scope", "notes:read"], 0, "authz.allowed"),
        (["--resource", "notes://private/a", "--scope", "notes:read"], 1, "authz.unknown_resource"),
        (["--tool", "read", "--agent", "reader", "--scope", "notes:write"], 0, "authz.allowed"),
        (["--tool", "write", "--agent", "reader", "--scope", "notes:write"], 1, "authz.agent"),
        (["--tool", "read", "--agent", "reader"], 1, "authz.scope"),
        (["--tool", "read", "--token", "nonsense"], 1, "auth.malformed"),
        (["--tool", "read", "--anonymous"], 1, "auth.missing"),
    ],
)
def test_explain_gives_the_decision_of_the_live_code(registry: Path, arguments: list[str], code: int, decision: str):
    done = run(explain, registry, "--server", "notes", "--json", *arguments)
    assert done.exit_code == code, done.output
    assert json.loads(done.stdout)["decision"] == decision
    told = run(explain, registry, "--server", "notes", *arguments)
    assert told.stdout.startswith("allowed: " if code == 0 else "denied: ")


def test_explain_takes_a_real_token_from_standard_input(registry: Path):
    token = run(issue, registry, "--server", "notes", "--subject", "bot", "--scope", "notes:write").stdout
    done = run(explain, registry, "--server", "notes", "--tool", "write", "--token", "-", "--json", stdin=token)
    found = json.loads(done.stdout)
    assert (found["decision"], found["agent"], found["caller"]) == ("authz.agent", "reader", "bot")
    assert found["reason"] == "agent reader does not declare write (tools)"
    assert found["caller is told"] == "Unknown tool: write"
    assert token.strip() not in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--tool", "a", "--prompt", "b"],
        ["--tool", "a", "--token", "x", "--scope", "y"],
        ["--tool", "a", "--anonymous", "--agent", "reader"],
    ],
)
def test_a_question_that_makes_no_sense_is_a_usage_error(registry: Path, arguments: list[str]):
    assert run(explain, registry, "--server", "notes", *arguments).exit_code == 2


def test_an_unknown_agent_or_server_is_named(registry: Path):
    assert "there are: reader" in run(explain, registry, "--server", "notes", "--tool", "a", "--agent", "x").output
    assert "there are: notes" in run(explain, registry, "--server", "x", "--tool", "a").output


def test_what_is_not_declared_is_told_where_to_be(registry: Path):
    unknown = run(explain, registry, "--server", "notes", "--resource", "notes://private/a", "--scope", "notes:read")
    assert "name it under servers.notes.resources" in unknown.output
    assert "hint" not in run(explain, registry, "--server", "notes", "--tool", "read", "--agent", "reader").output
