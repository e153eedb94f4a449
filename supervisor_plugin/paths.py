"""Where a fleet keeps its files: one private state directory, everything below it derived."""

import os
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# supervisord binds a temporary name first: path, dot and pid must fit into sockaddr_un (107 bytes).
MAX_SOCKET_PATH_BYTES = 99


class PathError(ValueError):
    """A state directory that cannot serve; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Paths:
    """`state` is private (0700), `registry` is `postern.yaml`; all absolute.

    `dsn_file` holds the listener's database address and `proxy_dsn_file` the proxy's; without them both look at
    DATABASE_URL and then into the state directory.
    """

    state: Path
    registry: Path
    dsn_file: Path | None = None
    proxy_dsn_file: Path | None = None
    python: str = sys.executable

    @property
    def conf(self) -> Path:
        return self.state / "supervisord.conf"

    @property
    def programs(self) -> Path:
        return self.state / "conf.d"

    @property
    def sections(self) -> Path:
        """What each server's launcher reads."""
        return self.state / "servers"

    @property
    def socket(self) -> Path:
        return self.state / "supervisor.sock"

    @property
    def pidfile(self) -> Path:
        return self.state / "supervisord.pid"

    @property
    def logs(self) -> Path:
        return self.state / "log"

    @property
    def bridge(self) -> Path:
        return self.state / "bridge"

    @property
    def instance(self) -> Path:
        """The file that holds this fleet's id; its processes carry it as a marker."""
        return self.state / "instance"

    @property
    def instance_of(self) -> Path:
        """The file that says which directory the id was made for."""
        return self.state / "instance.of"

    @property
    def lock(self) -> Path:
        """Held by the listener while it lives, its clean-up after supervisord's death included."""
        return self.state / "listener.lock"

    @property
    def postern(self) -> Path:
        """The console script beside the interpreter."""
        return Path(self.python).with_name("postern")

    def bridge_token(self, server: str) -> Path:
        """Return the file whose content the proxy, and nobody else, presents to this server's bridge."""
        return self.bridge / f"{server}.token"


def prepare(paths: Paths) -> None:
    """Create the directories, private; raise PathError where the socket path would be too long for the system."""
    size = len(os.fsencode(paths.socket))
    if size > MAX_SOCKET_PATH_BYTES:
        raise PathError(
            f"{paths.socket}: {size} bytes, but a socket path may have {MAX_SOCKET_PATH_BYTES}; "
            "choose a shorter state directory (POSTERN_STATE_DIR)"
        )
    for directory in (paths.state, paths.programs, paths.sections, paths.logs, paths.bridge):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths.state.chmod(0o700)


def read_instance(paths: Paths) -> str | None:
    """Return this fleet's id; None where it has none yet, or only that of a directory of which this one is a copy."""
    try:
        if paths.instance_of.exists() and paths.instance_of.read_text(encoding="ascii").strip() != _identity(paths):
            return None
        return paths.instance.read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def instance_id(paths: Paths) -> str:
    """Return this fleet's id, made once for each directory: two fleets with one id would end each other's processes."""
    known = read_instance(paths)
    if known is None:
        paths.instance.unlink(missing_ok=True)
    write_private(paths.instance_of, f"{_identity(paths)}\n")
    return known or create_private(paths.instance, f"{uuid.uuid4()}\n")


def _identity(paths: Paths) -> str:
    """Return what a directory keeps when it is moved, and its copy has not."""
    return str(paths.state.stat().st_ino)


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step, readable by its owner only."""
    _stage(path, text).replace(path)


def hold_exactly(directory: Path, suffix: str, texts: Mapping[str, str]) -> None:
    """Make the directory hold exactly these private files, by stem; a file that already says the same is not touched.

    Where one of them cannot be written, on a full disk for instance, OSError is raised and nothing has changed.
    """
    staged: dict[Path, Path] = {}
    directory.mkdir(mode=0o700, exist_ok=True)
    try:
        for name, text in texts.items():
            path = directory / f"{name}{suffix}"
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                staged[path] = _stage(path, text)
    except OSError:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)
        raise
    for path, temporary in staged.items():
        temporary.replace(path)
    for stale in directory.glob(f"*{suffix}"):
        if stale.stem not in texts:
            stale.unlink()


def _stage(path: Path, text: str) -> Path:
    """Write a private temporary file beside `path` and return it; on failure leave none."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    return temporary


def create_private(path: Path, text: str) -> str:
    """Create a file once, in one step, and return its content: ours, or that of whoever was first."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    write_private(temporary, text)
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    return path.read_text(encoding="utf-8").strip()
