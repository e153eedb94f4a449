"""The one gate (SPEC R4): what `postern check`, the proxy and the supervisor plugin ask before anything starts."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from registry.contracts.locked import Lock
from registry.contracts.lockfile import LockError, lock_path, read_lock
from registry.loader import load
from registry.models import Fleet
from registry.problems import Problem, in_file_order
from registry.rules.base import Context, Which
from registry.secrets import LocalStore, SecretStore
from registry.validator import validate


@dataclass(frozen=True, slots=True)
class GateResult:
    """`fleet` is there exactly if there is no problem. `files` are those that were read, the root file first."""

    fleet: Fleet | None
    problems: tuple[Problem, ...]
    files: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.fleet is not None


def check(
    path: Path,
    *,
    environ: Mapping[str, str],
    which: Which = shutil.which,
    now: datetime | None = None,
    store: SecretStore | None = None,
    on_host: bool = True,
    only: str | None = None,
    with_lock: bool = True,
) -> GateResult:
    """Load a registry file and try every rule on it; never raises for what is in the file.

    `now` (aware; default: this moment) decides which keys have expired. `on_host=False` leaves out what only the
    machine of the fleet can answer (files, programs, secrets), for a check in a build; `only` names the one server
    for which they have to be here, when the proxy is the sidecar of that server. `with_lock=False` leaves out what
    the lock file decides, for the command that makes it.
    """
    loaded = load(path)
    if loaded.draft is None:
        return GateResult(None, loaded.problems, loaded.layout.files)
    locked = _read_lock(path) if with_lock else None
    context = Context(
        fleet=loaded.draft,
        layout=loaded.layout,
        base=path.absolute().parent,
        environ=environ,
        now=now or datetime.now(UTC),
        which=which,
        store=store or LocalStore(path.absolute().parent, environ),
        on_host=on_host,
        only=only,
        lock=locked if isinstance(locked, Lock) else None,
        lock_file=lock_path(path).name,
    )
    lost = {problem.place for problem in loaded.problems if problem.code.startswith("YAML-")}
    broken = [problem for problem in validate(context) if problem.place not in lost]
    of_lock = locked.problems if isinstance(locked, LockError) else ()
    found = in_file_order([*loaded.problems, *broken, *of_lock], loaded.layout.files)
    return GateResult(None if found else loaded.fleet, found, loaded.layout.files)


def _read_lock(path: Path) -> Lock | LockError:
    try:
        return read_lock(lock_path(path))
    except LockError as error:
        return error
