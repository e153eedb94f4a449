"""Virtual environments from hashed lock files, made once and kept while lock file and Python stay the same.

Standard library only, as what it imports: `scripts/up` and `scripts/test` run this module before anything is installed
(`python -m supervisor_plugin.up.install .venv requirements/dev.txt --project .`), and `postern up --demo` uses it for
the environments of the demo servers. The index settings of the machine (pip.conf, PIP_*) are pip's business and stay
untouched.
"""

import asyncio
import contextlib
import hashlib
import importlib.util
import os
import re
import signal
import sys
import venv
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path

from registry.database.locks import takes

Progress = Callable[[str, int, int], None]
"""Called with what happens now, how many packages are done, and how many there are."""

INSTALL_LIMIT_S = 1200.0
POLL_S = 0.1
_TAIL_LINES = 15
_PIN = re.compile(r"^[A-Za-z0-9._-]+==", re.MULTILINE)
_ELSEWHERE = re.compile(r"^[A-Za-z0-9._-]+==.*sys_platform == '(?:win32|emscripten)'", re.MULTILINE)
_COLLECTING = re.compile(r"Collecting ([A-Za-z0-9._-]+)")
_PIP_OPTIONS = ("--no-input", "--disable-pip-version-check", "--no-color", "--progress-bar", "off")


class InstallError(Exception):
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
        """The file that says what was installed last from these lock files."""
        return self.directory / f".installed-{self.locks[0].stem}"

    @property
    def unfinished(self) -> Path:
        """The file that exists while an installation is under way, and after one that was cut off."""
        return self.directory / ".installing"

    def fingerprint(self) -> str:
        """Digest what the installation depends on: lock files, the project's metadata, the Python that runs this."""
        digest = hashlib.sha256(f"{sys.version}\n{sys.base_prefix}\n{self.directory.resolve()}\n".encode())
        for path in (*self.locks, *((self.project / "pyproject.toml",) if self.project else ())):
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def is_current(self) -> bool:
        """Say whether nothing needs to be done."""
        try:
            installed = self.stamp.read_text(encoding="ascii")
        except OSError:
            return False
        return self.python.exists() and not self.unfinished.exists() and installed == self.fingerprint()


async def ensure(environment: Environment, progress: Progress) -> bool:
    """Make the environment current; return False if it was. Several processes may ask at once. Raises InstallError."""
    if environment.is_current():
        return False
    try:
        environment.directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InstallError(f"{environment.directory}: cannot make the directory: {error.strerror}") from error
    async with _locked(environment.directory):
        if environment.is_current():
            return False
        await _install(environment, progress)
    return True


async def _install(environment: Environment, progress: Progress) -> None:
    total = sum(count_pins(lock.read_text(encoding="utf-8")) for lock in environment.locks)
    progress("preparing", 0, total)
    if environment.unfinished.exists() or not await _is_usable(environment.python):
        _create(environment.directory)
    environment.unfinished.touch()
    environment.stamp.unlink(missing_ok=True)
    pip = await _pip(environment)
    locks = [word for lock in environment.locks for word in ("-r", str(lock))]
    seen = 0

    def line(text: str) -> None:
        nonlocal seen
        if collecting := _COLLECTING.match(text):
            seen = min(seen + 1, total)
            progress(collecting[1], seen, total)
        elif text.startswith("Installing collected packages"):
            progress("unpacking", total, total)

    await _run([*pip, "--require-hashes", "--no-deps", "--no-compile", *locks], environment, line)
    if environment.project is not None:
        progress("installing the project", total, total)
        editable = ["--no-deps", "--no-build-isolation", "--editable", str(environment.project)]
        await _run([*pip, *editable], environment, lambda _: None)
    environment.stamp.write_text(environment.fingerprint(), encoding="ascii")
    environment.unfinished.unlink()


def count_pins(lock: str) -> int:
    """Count the packages of a lock file that can be meant for this kind of machine."""
    return len(_PIN.findall(lock)) - len(_ELSEWHERE.findall(lock))


async def _is_usable(python: Path) -> bool:
    """Say whether this interpreter exists, runs, and is of our own version."""
    program = "import sys; print(sys.version, sys.base_prefix)"
    try:
        process = await asyncio.create_subprocess_exec(
            str(python), "-c", program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError:
        return False
    output, _ = await process.communicate()
    return output.decode(errors="replace").strip() == f"{sys.version} {sys.base_prefix}"


def _create(directory: Path) -> None:
    try:
        venv.EnvBuilder(clear=True, symlinks=True, with_pip=False).create(directory)
    except OSError as error:
        raise InstallError(f"{directory}: cannot make a virtual environment: {error}") from error


async def _pip(environment: Environment) -> list[str]:
    """Return the words before `install`'s own: the environment's pip, or ours, which can fill any environment."""
    python = str(environment.python)
    if sys.prefix != sys.base_prefix and importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "--python", python, "install", *_PIP_OPTIONS]
    if importlib.util.find_spec("ensurepip"):
        if not list(environment.directory.glob("lib*/python*/site-packages/pip/__main__.py")):
            await _run([python, "-m", "ensurepip", "--default-pip"], environment, lambda _: None)
        return [python, "-m", "pip", "install", *_PIP_OPTIONS]
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "--python", python, "install", *_PIP_OPTIONS]
    raise InstallError(
        f"{sys.executable} has neither pip nor ensurepip, so nothing can be installed: install its venv package "
        f"(Debian and Ubuntu: `apt install python{sys.version_info[0]}.{sys.version_info[1]}-venv`) and run this again"
    )


async def _run(command: list[str], environment: Environment, line: Callable[[str], None]) -> None:
    """Run an installer and hand on its output line by line; an error ends with its last words."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    try:
        async with asyncio.timeout(INSTALL_LIMIT_S):
            async for raw in process.stdout or _nothing():
                text = raw.decode(errors="replace").rstrip()
                tail.append(f"  {text}")
                line(text)
            code = await process.wait()
    except TimeoutError as error:
        raise InstallError(f"{environment.directory}: installing took over {INSTALL_LIMIT_S:g} s") from error
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()
    if code != 0:
        locks = ", ".join(str(lock) for lock in environment.locks)
        said = "\n".join(tail)
        raise InstallError(f"{environment.directory}: cannot install {locks} (pip ended with {code}):\n{said}")


async def _nothing() -> AsyncGenerator[bytes]:
    return
    yield b""


@contextlib.asynccontextmanager
async def _locked(directory: Path) -> AsyncGenerator[None]:
    # The directory itself is the lock: it stays when its content is cleared, and no file is left beside it.
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while not takes(descriptor):  # noqa: ASYNC110 - another process holds it
            await asyncio.sleep(POLL_S)
        yield
    finally:
        os.close(descriptor)
