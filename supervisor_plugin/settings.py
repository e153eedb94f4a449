"""What the listener and the launcher are told by their environment."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from supervisor_plugin.paths import Paths


class SettingsError(Exception):
    """The environment does not say what is needed; the message names the variable and the remedy."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the fleet's files are and how this host is called; `dsn()` reads the database address when it is needed."""

    paths: Paths
    instance: str
    host: str
    environ: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Settings":
        """Read POSTERN_STATE_DIR, POSTERN_REGISTRY, POSTERN_FLEET, POSTERN_HOST, POSTERN_DSN_FILE and DATABASE_URL."""
        dsn_file = environ.get("POSTERN_DSN_FILE")
        paths = Paths(
            state=Path(environ.get("POSTERN_STATE_DIR", ".postern")).absolute(),
            registry=Path(environ.get("POSTERN_REGISTRY", "postern.yaml")).absolute(),
            dsn_file=Path(dsn_file) if dsn_file else None,
        )
        return cls(
            paths=paths,
            instance=environ.get("POSTERN_FLEET", ""),
            host=environ.get("POSTERN_HOST") or socket.gethostname(),
            environ=environ,
        )

    @classmethod
    def of_process(cls) -> "Settings":
        """Read the environment of this process."""
        return cls.from_env(os.environ)

    def dsn(self) -> str:
        """Return the database address: of the named file, else DATABASE_URL, else of the embedded database."""
        file = self.paths.dsn_file
        if file is None and (address := self.environ.get("DATABASE_URL")):
            return address
        file = file or self.paths.state / "dsn-owner"
        try:
            return file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise SettingsError(
                f"no database: cannot read {file} ({reason}); set DATABASE_URL or POSTERN_DSN_FILE"
            ) from error
