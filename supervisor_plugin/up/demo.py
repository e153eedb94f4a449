"""The demo fleet: environments of published servers, keys, a repository, and the registry file that names them."""

import asyncio
import hashlib
import secrets
import shutil
from pathlib import Path

from supervisor_plugin.paths import create_private, write_private
from supervisor_plugin.up.display import Display, Say
from supervisor_plugin.up.environments import Environment, InstallError, Progress, ensure
from supervisor_plugin.up.errors import UpError

SERVERS = ("time", "git", "excel")
REGISTRY = "postern.yaml"
ORIGIN = ".postern.yaml.origin"
KEY_BYTES = 32
_NEEDS_GIT = "enabled: true # needs the git executable"
_WITHOUT_GIT = "enabled: false # the git executable was not found"
_FIRST_COMMIT = (
    ("init", "--quiet", "--initial-branch", "main"),
    ("add", "README.md"),
    ("-c", "user.name=Postern", "-c", "user.email=demo@postern.invalid", "commit", "--quiet", "-m", "Begin the demo"),
)


def demo_files() -> Path:
    """Return the directory of the demo's files: in the clone, or inside the package where a wheel was installed."""
    here = Path(__file__)
    candidates = (here.parents[2] / "deploy" / "demo", here.with_name("demo_files"))
    for directory in candidates:
        if (directory / REGISTRY).exists():
            return directory
    raise UpError(f"the demo's files are missing: looked for {' and '.join(map(str, candidates))}")


async def prepare_demo(state: Path, display: Display) -> Path:
    """Make everything that the demo's registry names and return that file; what is there already is kept."""
    has_git = shutil.which("git") is not None
    if not has_git:
        display.note("git is not installed, so the demo goes without the git server (Debian, Ubuntu: apt install git)")
    names = [name for name in SERVERS if name != "git" or has_git]
    try:
        async with asyncio.TaskGroup() as installs:
            for name in names:
                installs.create_task(_install(name, state, display))
    except* InstallError as errors:
        raise UpError("\n".join(str(error) for error in errors.exceptions)) from None
    _make_keys(state)
    if has_git:
        await _make_repository(_repository(state))
    return write_registry(
        state, (demo_files() / REGISTRY).read_text(encoding="utf-8"), has_git=has_git, display=display
    )


async def _install(name: str, state: Path, display: Display) -> None:
    lock = demo_files() / f"requirements-{name}.txt"
    with display.step(f"demo server {name}") as say:
        changed = await ensure(Environment(state / "servers" / name, (lock,)), _progress(say))
        say("installed" if changed else "there already")


def _progress(say: Say) -> Progress:
    return lambda what, done, total: say(f"{done}/{total} {what}")


def _make_keys(state: Path) -> None:
    keys = state / "keys"
    keys.mkdir(mode=0o700, exist_ok=True)
    for name in SERVERS:
        create_private(keys / f"{name}.key", f"{secrets.token_hex(KEY_BYTES)}\n")
    token = create_private(keys / "excel.token", f"{secrets.token_hex(KEY_BYTES)}\n")
    write_private(keys / "excel.authorization", f"Bearer {token}\n")


def _repository(state: Path) -> Path:
    directory = state / "repository"
    directory.mkdir(exist_ok=True)
    readme = directory / "README.md"
    if not readme.exists():
        readme.write_text("A repository for the demo's git server.\n", encoding="utf-8")
    return directory


async def _make_repository(directory: Path) -> None:
    if (directory / ".git" / "HEAD").exists():
        return
    for words in _FIRST_COMMIT:
        process = await asyncio.create_subprocess_exec(
            "git", *words, cwd=directory, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        _, complaint = await process.communicate()
        if process.returncode != 0:
            raise UpError(f"cannot make the demo's repository in {directory}: {complaint.decode(errors='replace')}")


def write_registry(state: Path, template: str, *, has_git: bool, display: Display) -> Path:
    """Write the demo's registry file, unless somebody has changed it since: then it is kept as it is."""
    path, origin = state / REGISTRY, state / ORIGIN
    text = template if has_git else template.replace(_NEEDS_GIT, _WITHOUT_GIT)
    if path.exists():
        present = path.read_text(encoding="utf-8")
        if present == text:
            return path
        if not origin.exists() or origin.read_text(encoding="ascii") != _digest(present):
            display.note(f"{path} has been changed, and is used as it is; delete it to get the demo's own again")
            return path
    write_private(path, text)
    write_private(origin, _digest(text))
    return path


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
