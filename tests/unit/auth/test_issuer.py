"""Tokens of the development issuer, and when there are none."""

import pytest
from click.testing import CliRunner

from proxy.auth.identity import Authenticated
from proxy.auth.issuer import CannotIssueError, Grant, issue, parse_ttl
from proxy.auth.token_cli import command
from tests.unit.auth.making import NOW, Literal, auth, bearer, fleet, with_notes

GRANT = Grant("dev", "cli", ("notes:use", "notes:read"), 900, "t1")


async def test_what_it_issues_opens_its_server_and_no_other():
    found = fleet()
    text = issue(found, found.servers["notes"], GRANT, Literal(), now=NOW)
    known = await auth().authenticate(bearer(text), NOW)
    assert isinstance(known, Authenticated)
    assert (known.subject, known.client, known.expires) == ("dev", "cli", NOW + 900)
    assert known.scopes == {"notes:use", "notes:read"}
    assert not isinstance(await auth(server="clock").authenticate(bearer(text), NOW), Authenticated)


async def test_it_signs_with_the_first_live_key_or_the_one_that_is_named():
    keys = [
        {"kid": "old", "secret": "old-" * 10, "not_after": "2020-01-01T00:00:00Z"},
        {"kid": "new", "secret": "new-" * 10},
        {"kid": "next", "secret": "next" * 10},
    ]
    found = with_notes(keys=keys)
    for kid in (None, "next"):
        text = issue(found, found.servers["notes"], GRANT, Literal(), now=NOW, kid=kid)
        assert isinstance(await auth(found).authenticate(bearer(text), NOW), Authenticated)
    for kid in ("old", "nope"):
        with pytest.raises(CannotIssueError, match="no live key"):
            issue(found, found.servers["notes"], GRANT, Literal(), now=NOW, kid=kid)


def test_in_cloud_mode_it_issues_nothing():
    found = fleet(fleet={"mode": "cloud"})
    with pytest.raises(CannotIssueError, match="cloud mode"):
        issue(found, found.servers["notes"], GRANT, Literal(), now=NOW)


@pytest.mark.parametrize(
    ("changes", "grant", "why"),
    [
        ({"algorithms": ["ES256"]}, GRANT, "no HS256"),
        ({"keys": []}, GRANT, "no live key"),
        ({}, Grant("a\nb", None, (), 1, "t"), "printable"),
        ({}, Grant("a", "", (), 1, "t"), "printable"),
        ({}, Grant("a", None, ('b"c',), 1, "t"), "not a scope"),
    ],
)
def test_what_cannot_be_issued_is_said(changes: dict[str, object], grant: Grant, why: str):
    found = with_notes(**changes)
    with pytest.raises(CannotIssueError, match=why):
        issue(found, found.servers["notes"], grant, Literal(), now=NOW)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("24h", 86_400)])
def test_times_to_live(text: str, seconds: int):
    assert parse_ttl(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "1d", "25h", "1 m", "m", "1.5h", "٣m"])
def test_what_is_no_time_to_live(text: str):
    with pytest.raises(CannotIssueError):
        parse_ttl(text)


REGISTRY = """\
version: 1
servers:
  notes:
    display_name: Notes
    description: Notes
    type: external
    endpoint: http://127.0.0.1:9/mcp
    oauth:
      scopes: [notes:use]
      keys: [{kid: n1, secret: notes-secret-notes-secret-notes-00}]
    tools: {read: {}}
"""


def test_the_command_prints_the_token_and_nothing_else(tmp_path):
    file = tmp_path / "postern.yaml"
    file.write_text(REGISTRY)
    done = CliRunner().invoke(command, ["--registry", str(file), "--server", "notes", "--subject", "me"])
    assert done.exit_code == 0, done.output
    assert done.stdout.count(".") == 2
    assert done.stdout.count("\n") == 1
    unknown = CliRunner().invoke(command, ["--registry", str(file), "--server", "note", "--subject", "me"])
    assert unknown.exit_code == 1
    assert "there are: notes" in unknown.output
    assert "notes-secret" not in unknown.output


def test_the_command_refuses_a_registry_that_does_not_pass_the_gate(tmp_path):
    file = tmp_path / "postern.yaml"
    file.write_text(REGISTRY.replace("display_name", "displayname"))
    done = CliRunner().invoke(command, ["--registry", str(file), "--server", "notes", "--subject", "me"])
    assert done.exit_code == 1
    assert done.stdout == ""
