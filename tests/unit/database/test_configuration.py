"""The configuration files that an embedded cluster starts with."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.database.binaries import parse_version
from registry.database.errors import EmbeddedPostgresError
from registry.database.initialise import last_complaint, render_ident, render_settings


def test_settings_are_quoted_and_follow_what_initdb_found():
    rendered = render_settings({"search_path": "a'b\\c"}, include=Path("/data/postgresql.conf"))
    assert rendered == "include '/data/postgresql.conf'\nsearch_path = 'a''b\\\\c'\n"


@pytest.mark.parametrize(
    ("name", "value"), [("fsync = off\nx", "on"), ("a", "b\nhba_file = x"), ("", "x"), ("a;b", "x")]
)
def test_a_setting_cannot_smuggle_in_another(name: str, value: str):
    with pytest.raises(EmbeddedPostgresError, match="not a usable setting"):
        render_settings({name: value}, include=Path("/x"))


@given(st.text(alphabet=st.characters(exclude_characters="\n\0"), min_size=1, max_size=20))
def test_the_map_names_one_user_and_our_roles_only(user: str):
    lines = render_ident(user).split("\n")[:-1]
    assert {line.rpartition(" ")[2] for line in lines} == {
        "postgres",
        "postern_owner",
        "postern_proxy",
        "postern_auditor",
        "postern_operator",
    }
    assert {line.rpartition(" ")[0] for line in lines} == {'postern "' + user.replace('"', '""') + '"'}


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("postgres (PostgreSQL) 18.6", "18.6"),
        ("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)", "15.14"),
        ("postgres (PostgreSQL) 19devel", "19"),
        ("postgres: not found", None),
    ],
)
def test_the_version_is_read_from_what_postgres_says(output: str, version: str | None):
    assert parse_version(output) == version


def test_the_log_line_that_says_why_is_found(tmp_path: Path):
    log = tmp_path / "log"
    log.write_text("FATAL:  an old one\n")
    since = log.stat().st_size
    assert last_complaint(log, since=since) == "it wrote nothing"
    log.write_text(log.read_text() + "LOG: starting\n1 FATAL:  no space\nLOG: down\n")
    assert last_complaint(log, since=since) == "1 FATAL:  no space"
    log.write_text("LOG: bad x\nFATAL: configuration file has errors\n")
    assert last_complaint(log) == "LOG: bad x; FATAL: configuration file has errors"
    log.write_text("killed\n")
    assert last_complaint(log) == "killed"
