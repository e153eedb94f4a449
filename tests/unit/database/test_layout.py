"""Who may enter the folder of a cluster, and who may not."""

import os
import stat
from pathlib import Path

import pytest

from registry.database.account import PRIVATE_UIDS, candidates, choose_private_account, is_unassigned, own_account
from registry.database.errors import EmbeddedPostgresError
from registry.database.layout import (
    SHARED_STATE,
    Layout,
    Record,
    closed_parent,
    default_base,
    give_to,
    make_socket_dir,
    prepare_base,
    read_record,
    write_record,
)
from tests.fixtures_postgres import fresh_base

AS_ROOT = os.geteuid() == 0


@pytest.fixture
def open_dir():
    """A directory that everybody may walk through, unlike pytest's own."""
    path = fresh_base()
    path.mkdir(mode=0o755)
    yield path
    for entry in sorted(path.rglob("*"), reverse=True):
        entry.rmdir() if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    path.rmdir()


def test_the_base_lies_in_an_open_state_directory(open_dir: Path):
    assert default_base(open_dir) == open_dir / "postgres"


def test_for_root_a_closed_state_directory_moves_the_base_and_stays_closed(open_dir: Path):
    closed = open_dir / "state"
    closed.mkdir(mode=0o700)
    base = default_base(closed)
    assert base.parent == (SHARED_STATE if AS_ROOT else closed)
    assert base == default_base(closed)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_a_base_that_exists_is_kept_when_its_parent_is_closed_later(open_dir: Path):
    base = default_base(open_dir)
    base.mkdir()
    write_record(Layout(base), Record(uid=1, gid=1, socket_dir="x"))
    open_dir.chmod(0o700)
    assert default_base(open_dir) == base
    open_dir.chmod(0o755)


def test_the_first_closed_parent_is_found(open_dir: Path):
    (open_dir / "a" / "b").mkdir(parents=True)
    (open_dir / "a").chmod(0o750)
    assert closed_parent(open_dir / "a" / "b" / "new" / "deep") == open_dir / "a"
    (open_dir / "a").chmod(0o751)
    assert closed_parent(open_dir / "a" / "b" / "new") is None


def test_a_base_below_a_closed_directory_is_refused_for_root_only(open_dir: Path):
    closed = open_dir / "closed"
    closed.mkdir(mode=0o700)
    if AS_ROOT:
        with pytest.raises(EmbeddedPostgresError, match=f"{closed} is closed to the unprivileged user"):
            prepare_base(closed / "base")
    else:
        prepare_base(closed / "base")
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_a_base_that_others_may_write_to_is_refused_and_not_mended(open_dir: Path):
    base = open_dir / "base"
    base.mkdir()
    base.chmod(0o777)
    with pytest.raises(EmbeddedPostgresError, match="may be written by others"):
        prepare_base(base)
    assert stat.S_IMODE(base.stat().st_mode) == 0o777


@pytest.mark.skipif(not AS_ROOT, reason="only root can give a directory away")
def test_a_base_of_another_user_is_refused(open_dir: Path):
    base = open_dir / "base"
    base.mkdir()
    os.chown(base, 1, 1)
    with pytest.raises(EmbeddedPostgresError, match="uid 1: run as that user"):
        prepare_base(base)


def test_a_file_in_the_place_of_the_base_is_refused(open_dir: Path):
    (open_dir / "base").write_text("")
    with pytest.raises(EmbeddedPostgresError, match="no directory"):
        prepare_base(open_dir / "base")


def test_a_record_is_read_back_and_a_damaged_one_named(open_dir: Path):
    layout = Layout(open_dir)
    assert read_record(layout) is None
    write_record(layout, Record(uid=60001, gid=60001, socket_dir="/run/x"))
    assert read_record(layout) == Record(uid=60001, gid=60001, socket_dir="/run/x")
    layout.record_file.write_text("{")
    with pytest.raises(EmbeddedPostgresError, match=r"cluster\.json cannot be read"):
        read_record(layout)


def test_the_socket_directory_is_private_and_emptied(open_dir: Path):
    layout = Layout(open_dir)
    path = make_socket_dir(layout, own_account(), None)
    (path / "stale").touch()
    assert make_socket_dir(layout, own_account(), None) == path == layout.run
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert list(path.iterdir()) == []


def test_a_socket_directory_that_is_a_link_or_open_is_refused(open_dir: Path):
    layout = Layout(open_dir)
    (open_dir / "elsewhere").mkdir(mode=0o700)
    layout.run.symlink_to(open_dir / "elsewhere")
    with pytest.raises(EmbeddedPostgresError, match="is not a private directory"):
        make_socket_dir(layout, own_account(), None)
    layout.run.unlink()
    layout.run.mkdir(mode=0o755)
    with pytest.raises(EmbeddedPostgresError, match="is not a private directory"):
        make_socket_dir(layout, own_account(), None)


def test_a_long_path_gets_a_private_runtime_directory_and_keeps_it(open_dir: Path):
    deep = open_dir.joinpath(*["long-directory-name"] * 5)
    deep.mkdir(parents=True)
    path = make_socket_dir(Layout(deep), own_account(), None)
    try:
        assert len(os.fsencode(path / ".s.PGSQL.5432")) <= 107
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert make_socket_dir(Layout(deep), own_account(), os.fspath(path)) == path
        path.chmod(0o755)
        foreign = make_socket_dir(Layout(deep), own_account(), os.fspath(path))
        assert foreign != path
        foreign.rmdir()
    finally:
        path.rmdir()


@pytest.mark.skipif(not AS_ROOT, reason="only root can give a directory away")
def test_a_tree_with_a_foreign_file_or_a_hard_link_is_not_given_away(open_dir: Path):
    tree, account = open_dir / "tree", own_account()
    tree.mkdir()
    (tree / "foreign").touch()
    os.chown(tree / "foreign", 1, 1)
    with pytest.raises(EmbeddedPostgresError, match="was not made by PostgreSQL"):
        give_to(tree, account, was=account)
    os.chown(tree / "foreign", 0, 0)
    os.link(tree / "foreign", open_dir / "link")
    with pytest.raises(EmbeddedPostgresError, match="was not made by PostgreSQL"):
        give_to(tree, account, was=account)


def test_private_uids_are_stable_for_a_base_and_spread_over_bases():
    first, second = candidates(Path("/a")), candidates(Path("/b"))
    assert first == candidates(Path("/a"))
    assert first[0] != second[0]
    assert set(first) == set(second) == set(PRIVATE_UIDS)


def test_a_private_uid_belongs_to_nobody():
    chosen = choose_private_account(Path("/a"))
    assert chosen.uid in PRIVATE_UIDS
    assert is_unassigned(chosen.uid)
    assert not is_unassigned(0)
