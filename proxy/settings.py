"""What the proxy is told by its environment; the only reader of it in this package."""

import logging
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class SettingsError(Exception):
    """The environment does not say what the proxy needs; the message names the variable and the remedy."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things are. `dsn` is a secret and therefore not part of the repr."""

    registry: Path
    state_dir: Path
    dsn: "Dsn"
    instance: str
    host: str
    log_level: str

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Settings":
        """Read `POSTERN_REGISTRY`, `POSTERN_STATE_DIR`, `POSTERN_DSN_FILE` or `DATABASE_URL`, and the optional names.

        `POSTERN_INSTANCE` names this proxy in its rows, `POSTERN_HOST` the machine whose servers it calls (both: the
        host's name), `POSTERN_LOG` the log level.
        """
        state_dir = Path(environ.get("POSTERN_STATE_DIR", ".postern")).absolute()
        log_level = environ.get("POSTERN_LOG") or "info"
        if log_level.upper() not in logging.getLevelNamesMapping():
            raise SettingsError(f"POSTERN_LOG={log_level}: write debug, info, warning, error or critical")
        return cls(
            registry=Path(environ.get("POSTERN_REGISTRY", "postern.yaml")).absolute(),
            state_dir=state_dir,
            dsn=_read_dsn(environ, state_dir),
            instance=environ.get("POSTERN_INSTANCE") or socket.gethostname(),
            host=environ.get("POSTERN_HOST") or socket.gethostname(),
            log_level=log_level,
        )


class Dsn(str):
    """A database address that may hold a password: it never shows itself in a repr."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Hide the address."""
        return "Dsn('**********')"


def _read_dsn(environ: Mapping[str, str], state_dir: Path) -> Dsn:
    if named := environ.get("POSTERN_DSN_FILE"):
        return _dsn_from_file(Path(named))
    if address := environ.get("DATABASE_URL"):
        return Dsn(address)
    if (default := state_dir / "dsn-proxy").exists():
        return _dsn_from_file(default)
    raise SettingsError(
        "no database: set DATABASE_URL (postgresql://…) or POSTERN_DSN_FILE, "
        f"or start the embedded one with `postern up` (looked for {default})"
    )


def _dsn_from_file(path: Path) -> Dsn:
    try:
        address = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"cannot read the database address from {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"cannot read the database address from {path}: it is not UTF-8 text") from error
    if not address:
        raise SettingsError(f"cannot read the database address from {path}: it is empty; write postgresql://… into it")
    return Dsn(address)
