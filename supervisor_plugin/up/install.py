"""The command line of `environments.py` for the scripts: one line of progress, nothing when nothing is to be done.

python -m supervisor_plugin.up.install DIRECTORY LOCK_FILE... [--project DIRECTORY]
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from supervisor_plugin.up.environments import Environment, InstallError, Progress, ensure


def main(argv: Sequence[str] | None = None) -> int:
    """Make the environment current and return 0, or say why not and return 1."""
    parser = argparse.ArgumentParser(prog="install")
    parser.add_argument("directory", type=Path)
    parser.add_argument("locks", type=Path, nargs="+")
    parser.add_argument("--project", type=Path)
    options = parser.parse_args(argv)
    environment = Environment(options.directory, tuple(options.locks), options.project)
    began = time.monotonic()
    try:
        changed = asyncio.run(ensure(environment, progress_line(environment.directory.name, sys.stderr)))
    except InstallError as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; run it again to go on\n")
        return 130
    if changed:
        _overwrite(sys.stderr, f"{environment.directory.name}: ready in {time.monotonic() - began:.0f} s")
        sys.stderr.write("\n")
    return 0


def progress_line(name: str, stream: TextIO) -> Progress:
    """Return a display: one line that is overwritten on a terminal, otherwise one line per stage."""
    last = ""

    def show(what: str, done: int, total: int) -> None:
        nonlocal last
        if stream.isatty():
            _overwrite(stream, f"{name}: {done}/{total} {what}")
        elif not 0 < done < total and what != last:
            stream.write(f"{name}: {what} ({total} packages)\n")
        last = what

    return show


def _overwrite(stream: TextIO, text: str) -> None:
    stream.write(f"\r\x1b[K{text}" if stream.isatty() else text)
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
