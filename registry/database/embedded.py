"""PostgreSQL for the first run and for tests: no server to install, no port, no password.

The cluster lives in one private directory, listens on a Unix socket in a 0700 directory only, and lets in nobody but
the operating system user that started it (`peer` with an ident map; never `trust`), as any of our roles. For root it
runs under a uid without passwd entry that no one else has (`account.py`); root itself connects. It ends with the
process that started it where the platform can do that (Linux), even when that one is killed.
"""

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from types import MappingProxyType, TracebackType
from typing import Final, Self
from urllib.parse import quote

from registry.database import layout as folder
from registry.database.account import Account, choose_private_account, is_unassigned, own_account, own_name
from registry.database.binaries import Binaries, binaries_for, find_binaries
from registry.database.errors import EmbeddedPostgresError
from registry.database.initialise import DATABASE, check_version, initialise, last_complaint, write_configuration
from registry.database.layout import Layout, Record, default_base
from registry.database.locks import opened, takes
from registry.database.postmaster import PID_FILE, READY, find_postmaster, processes_of
from registry.database.spawn import spawn_postgres

__all__ = ["EmbeddedPostgres", "default_base"]

POLL_S: Final = 0.01
LOG_LIMIT_BYTES: Final = 10_000_000
ORPHAN_GRACE_S: Final = 3.0
IMMEDIATE_LIMIT_S: Final = 15.0


class EmbeddedPostgres:
    """One embedded cluster, started and stopped; both block, so an event loop calls them in a worker thread."""

    def __init__(
        self,
        base: Path,
        *,
        extra_settings: Mapping[str, str] = MappingProxyType({}),
        start_timeout_s: float = 60.0,
        stop_grace_s: float = 15.0,
        binaries: Binaries | None = None,
    ) -> None:
        self._layout = Layout(base.resolve())
        self._extra_settings = extra_settings
        self._start_timeout_s = start_timeout_s
        self._stop_grace_s = stop_grace_s
        self._binaries = binaries

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def base(self) -> Path:
        return self._layout.base

    @property
    def log_file(self) -> Path:
        return self._layout.log_file

    @property
    def pid(self) -> int | None:
        """The pid of the running postmaster of this base, whoever started it; None when there is none."""
        running = find_postmaster(self._layout.data)
        return running.pid if running else None

    def is_running(self) -> bool:
        """Say whether the postmaster lives and takes connections."""
        running = find_postmaster(self._layout.data)
        return running is not None and running.status == READY

    def dsn(self, role: str, database: str = DATABASE) -> str:
        """Return the asyncpg DSN for `role` over the Unix socket; the cluster must have been started once."""
        record = folder.read_record(self._layout)
        if record is None:
            raise EmbeddedPostgresError(f"{self.base} holds no cluster: start it first")
        host = quote(record.socket_dir, safe="")
        return f"postgresql://{quote(role, safe='')}@/{quote(database, safe='')}?host={host}&port=5432"

    def start(self) -> None:
        """Start the cluster, making it first if there is none; adopt it if it runs already.

        An adopted server keeps its settings and goes on to live and die with the process that started it.
        Raises EmbeddedPostgresError, which names the reason and the log file.
        """
        deadline = time.monotonic() + self._start_timeout_s
        folder.prepare_base(self.base)
        try:
            with opened(self._layout.start_lock) as turn, opened(self._layout.server_lock) as lock:
                if self._has_turn(turn, deadline) and self._has_data(lock, deadline):
                    self._start_locked(lock, deadline)
        except OSError as error:
            raise EmbeddedPostgresError(str(error), log_file=self.log_file) from error

    def stop(self) -> None:
        """Stop the cluster: fast shutdown, after the grace immediate shutdown; nothing to do when none runs."""
        if self._ends_after(signal.SIGINT, self._stop_grace_s) or self._ends_after(signal.SIGQUIT, IMMEDIATE_LIMIT_S):
            record = folder.read_record(self._layout)
            if record is not None:
                folder.remove_socket_dir(self._layout, Path(record.socket_dir))
            return
        raise EmbeddedPostgresError(f"pid {self.pid} does not stop", log_file=self.log_file)

    def _has_turn(self, turn: int, deadline: float) -> bool:
        """Wait until we are the only starter (True) or the cluster runs (False)."""
        while not takes(turn):
            if self.is_running():
                return False
            self._pause(deadline, "another start is under way")
        return True

    def _has_data(self, lock: int, deadline: float) -> bool:
        """Wait until no process works on the data (True) or the cluster runs (False); ends backends left alone."""
        orphans_until = time.monotonic() + ORPHAN_GRACE_S
        while not takes(lock):
            if self.is_running():
                return False
            if time.monotonic() > orphans_until and find_postmaster(self._layout.data) is None:
                self._kill_orphans()
            self._pause(deadline, "a server of this data neither runs nor ends")
        return True

    def _pause(self, deadline: float, why: str) -> None:
        if time.monotonic() > deadline:
            raise EmbeddedPostgresError(f"{why} after {self._start_timeout_s:g} s", log_file=self.log_file)
        time.sleep(POLL_S)

    def _kill_orphans(self) -> None:
        """End backends that outlived a killed postmaster: nothing may write to the data while the next one recovers."""
        for pid in processes_of(self._layout.data):
            os.kill(pid, signal.SIGKILL)

    def _start_locked(self, lock: int, deadline: float) -> None:
        found = self._binaries or find_binaries()
        user = own_name()
        account = self._account()
        binaries = binaries_for(found, base=self.base, other_uid=account.is_other)
        self._open_log()
        if self._layout.data.exists():
            check_version(self._layout, binaries)
        else:
            durable = self._extra_settings.get("fsync", "on") != "off"
            initialise(self._layout, binaries, account, durable=durable)
        self._claim_data(account)
        socket_dir = self._socket_dir(account)
        write_configuration(self._layout, socket_dir=socket_dir, user=user, extra_settings=self._extra_settings)
        self._launch(binaries, account, lock, deadline)

    def _account(self) -> Account:
        """Return the server's account: the recorded private one as long as nobody else got its number."""
        if os.geteuid() != 0:
            return own_account()
        record = folder.read_record(self._layout)
        if record is not None and is_unassigned(record.uid):
            return record.account
        return choose_private_account(self.base)

    def _claim_data(self, account: Account) -> None:
        """Give the data to `account` if it belongs to an earlier one."""
        status = self._layout.data.stat()
        if status.st_uid != account.uid:
            folder.give_to(self._layout.data, account, was=Account(uid=status.st_uid, gid=status.st_gid))

    def _socket_dir(self, account: Account) -> Path:
        record = folder.read_record(self._layout)
        path = folder.make_socket_dir(self._layout, account, record.socket_dir if record else None)
        folder.write_record(self._layout, Record(uid=account.uid, gid=account.gid, socket_dir=os.fspath(path)))
        return path

    def _open_log(self) -> None:
        """Put an over-long log aside and make the log a private file: failing statements are quoted in it."""
        log = self._layout.log_file
        if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
            log.replace(log.with_name(log.name + ".1"))
        log.touch(mode=0o600)

    def _launch(self, binaries: Binaries, account: Account, lock: int, deadline: float) -> None:
        # The lock is ours, so no server of this data lives; a pid recycled by a stranger would make postgres refuse.
        (self._layout.data / PID_FILE).unlink(missing_ok=True)
        log = self._layout.log_file
        since = log.stat().st_size
        conf = self._layout.conf / "postgresql.conf"
        command = [os.fspath(binaries.postgres), "-D", os.fspath(self._layout.data), "-c", f"config_file={conf}"]
        try:
            child = spawn_postgres(command, account=account, log_file=log, keep_fd=lock)
        except OSError as error:
            raise EmbeddedPostgresError(f"{binaries.postgres} did not start: {error}", log_file=log) from error
        self._await_ready(child, deadline, since)

    def _await_ready(self, child: "Popen[bytes]", deadline: float, since: int) -> None:
        while not self.is_running():
            if child.poll() is not None:
                raise EmbeddedPostgresError(last_complaint(self.log_file, since=since), log_file=self.log_file)
            if time.monotonic() > deadline:
                _end(child)
                reason = f"not ready within {self._start_timeout_s:g} s: {last_complaint(self.log_file, since=since)}"
                raise EmbeddedPostgresError(reason, log_file=self.log_file)
            time.sleep(POLL_S)

    def _ends_after(self, number: signal.Signals, limit_s: float) -> bool:
        """Send `number` to our postmaster and say whether it is gone within the limit."""
        running = find_postmaster(self._layout.data)
        if running is None:
            return True
        os.kill(running.pid, number)
        deadline = time.monotonic() + limit_s
        while find_postmaster(self._layout.data) is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True


def _end(child: "Popen[bytes]") -> None:
    """End a server that takes too long to start, and return once it is gone: it must not come up after all."""
    child.send_signal(signal.SIGQUIT)
    try:
        child.wait(IMMEDIATE_LIMIT_S)
    except TimeoutExpired:
        child.kill()
        child.wait()
