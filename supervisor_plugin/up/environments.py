"""Virtual environments from hashed lock files, made once and kept while lock file and Python stay the same.

Standard library only: `scripts/up` and `scripts/test` run this module before anything is installed
(`python -m supervisor_plugin.up.environments .venv requirements/dev.txt --project .`), and `postern up --demo` uses it for the
environments of the demo servers. The index settings of the machine (pip.conf, PIP_*) are pip's business and stay untouched.
"""

import argparse
import asyncio
import hashlib
import importlib.util
import re
import shutil
import sys
import time
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[[str, int, int], None]
"""Called with what happens now, how many packages are done, and how many there are."""

INSTALL_LIMIT_S = 1200.0
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==(?!.*sys_platform == '(?:win32|emscripten)')", re.MULTILINE)
_COLLECTING = re.compile(r"^Collecting ([A-Za-z0-9._-]+)")
_TAIL_LINES = 25


class EnvironmentError_(Exception):
    """An environment cannot be made; the message says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A directory, the lock files that fill it, and the project that is installed into it in editable form, if any."""

    directory: Path
    locks: tuple[Path, ...]
    project: Path | None = None

    @property
    def python(self) -> Path:
        """The interpreter of this environment."""
        return self.directory / "bin" / "python"

    @property
    def stamp(self) -> Path:
        """The file that says what was installed last."""
        return self.directory / f".installed-{self.locks[0].stem}"

    def fingerprint(self) -> str:
        """What the installation depends on: lock files, the project's own metadata, the Python that runs this."""
        digest = hashlib.sha256(f"{sys.version} {sys.base_prefix} {self.directory.absolute()}".encode())
        for path in (*self.locks, *((self.project / "pyproject.toml",) if self.project else ())):
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def is_current(self) -> bool:
        """Whether nothing needs to be done."""
        try:
            return self.python.exists() and self.stamp.read_text(encoding="ascii") == self.fingerprint()
        except OSError:
            return False
