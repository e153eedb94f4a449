"""The folder of an embedded cluster, and who may enter it.

    base/                 ours, closed for writing by anyone else
      cluster.json        uid of the server, socket directory
      start.lock          flock held by the one process that starts the server just now
      server.lock         flock held by the server and all its children as long as one of them lives
      postgres.log
      conf/               postgresql.conf, pg_hba.conf, pg_ident.conf: written by us, only read by the server
      data/               0700, owned by the server's uid
      run/                0700, owned by the server's uid: the Unix socket (elsewhere when the path is too long)

No directory that we did not create ever has its mode or owner changed.
"""

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from registry.database.account import Account
from registry.database.errors import EmbeddedPostgresError

SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_BYTES = 107
SHARED_STATE = Path("/var/lib/postern")


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths below one base directory."""

    base: Path

    @property
    def data(self) -> Path:
        return self.base / "data"

    @property
    def conf(self) -> Path:
        return self.base / "conf"

    @property
    def run(self) -> Path:
        return self.base / "run"

    @property
    def start_lock(self) -> Path:
        return self.base / "start.lock"

    @property
    def server_lock(self) -> Path:
        return self.base / "server.lock"

    @property
    def log_file(self) -> Path:
        return self.base / "postgres.log"

    @property
    def record_file(self) -> Path:
        return self.base / "cluster.json"


@dataclass(frozen=True, slots=True)
class Record:
    """What must be remembered between two starts."""

    uid: int
    gid: int
    socket_dir: str

    @property
    def account(self) -> Account:
        return Account(uid=self.uid, gid=self.gid)


def default_base(state_dir: Path) -> Path:
    """Return the base directory for a state directory, which should exist already.

    Root's server runs under another uid that must be able to walk there; where a parent is closed to others, the base
    is /var/lib/postern/<digest of the state directory> instead. A base that exists already is kept.
    """
    inside = state_dir.resolve() / "postgres"
    if os.geteuid() != 0 or Layout(inside).record_file.exists():
        return inside
    outside = SHARED_STATE / hashlib.sha256(os.fsencode(state_dir.resolve())).hexdigest()[:16]
    return outside if outside.exists() or closed_parent(inside) is not None else inside


def closed_parent(path: Path) -> Path | None:
    """Return the first existing parent of `path` that others may not walk through, or None."""
    for parent in reversed(path.parents):
        if parent.exists() and not parent.stat().st_mode & stat.S_IXOTH:
            return parent
    return None


def prepare_base(base: Path) -> None:
    """Create `base` if it is missing, and refuse one that others own, may write to, or that the server cannot reach."""
    mode = 0o711 if os.geteuid() == 0 else 0o700
    try:
        for path in reversed((base, *base.parents)):
            _make_dir(path, mode)
        status = base.lstat()
    except OSError as error:
        raise EmbeddedPostgresError(f"cannot use the directory {base}: {error}") from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise EmbeddedPostgresError(
            f"{base} is no directory of uid {os.geteuid()}, but of uid {status.st_uid}: run as that user"
        )
    if status.st_mode & 0o022:
        raise EmbeddedPostgresError(f"{base} may be written by others: remove that permission")
    if os.geteuid() == 0 and (closed := closed_parent(base / "data")) is not None:
        raise EmbeddedPostgresError(
            f"{closed} is closed to the unprivileged user that runs PostgreSQL for root: choose another base directory"
        )


def _make_dir(path: Path, mode: int) -> None:
    """Make a directory with exactly this mode; one that exists, or that another starter just makes, stays as it is."""
    if path.exists():
        return
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=mode)
        path.chmod(mode)


def read_record(layout: Layout) -> Record | None:
    try:
        stored = json.loads(layout.record_file.read_text())
        return Record(uid=int(stored["uid"]), gid=int(stored["gid"]), socket_dir=str(stored["socket_dir"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EmbeddedPostgresError(f"{layout.record_file} cannot be read: {error}") from error


def write_record(layout: Layout, record: Record) -> None:
    write_atomically(layout.record_file, json.dumps(asdict(record)) + "\n")


def write_atomically(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.chmod(0o644)
    partial.replace(path)


def make_socket_dir(layout: Layout, account: Account, recorded: str | None) -> Path:
    """Return an empty 0700 directory of `account` whose socket path fits: base/run, else the recorded or a new one."""
    if _fits(layout.run):
        _make_private(layout.run, account)
        return layout.run
    if recorded is not None and _is_private(Path(recorded), account):
        return _emptied(Path(recorded))
    for root in _runtime_roots(account):
        path = Path(tempfile.mkdtemp(prefix="postern-", dir=root))
        os.chown(path, account.uid, account.gid)
        return path
    raise EmbeddedPostgresError(f"{layout.run} is too long for a Unix socket and no runtime directory is usable")


def remove_socket_dir(layout: Layout, socket_dir: Path) -> None:
    """Remove a runtime directory outside the base (base/run stays)."""
    if socket_dir != layout.run:
        shutil.rmtree(socket_dir, ignore_errors=True)


def give_to(path: Path, account: Account, *, was: Account) -> None:
    """Hand a directory tree to `account`, its root last; refuse entries that belong to neither `was` nor `account`."""
    for entry in _entries(path):
        status = entry.lstat()
        if status.st_uid not in (was.uid, account.uid) or (stat.S_ISREG(status.st_mode) and status.st_nlink > 1):
            raise EmbeddedPostgresError(f"{entry} was not made by PostgreSQL: remove {path} and start again")
        os.lchown(entry, account.uid, account.gid)


def _entries(path: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(path, topdown=False):
        yield from (Path(folder) / name for name in (*files, *folders))
    yield path


def _fits(directory: Path) -> bool:
    """Say whether a socket can be there: short enough, and no comma, which separates hosts in an address."""
    return "," not in os.fspath(directory) and len(os.fsencode(directory / SOCKET_NAME)) <= SOCKET_PATH_BYTES


def _make_private(path: Path, account: Account) -> None:
    if path.exists() and not _is_private(path, account):
        raise EmbeddedPostgresError(f"{path} is not a private directory of uid {account.uid}: remove it")
    if path.exists():
        _emptied(path)
        return
    path.mkdir(mode=0o700)
    path.chmod(0o700)
    os.chown(path, account.uid, account.gid)


def _is_private(path: Path, account: Account) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == account.uid and not status.st_mode & 0o077


def _emptied(path: Path) -> Path:
    for entry in path.iterdir():
        entry.unlink()
    return path


def _runtime_roots(account: Account) -> Iterator[Path]:
    own = Path("/run") if os.geteuid() == 0 else Path(f"/run/user/{os.geteuid()}")
    for root in (own, Path(tempfile.gettempdir())):
        reachable = not account.is_other or closed_parent(root / "postern") is None
        if os.access(root, os.W_OK | os.X_OK) and reachable and _fits(root / "postern-12345678"):
            yield root
