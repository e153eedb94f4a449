"""The operating system user that PostgreSQL runs as.

An ordinary user runs it as itself. PostgreSQL refuses uid 0, so for root it runs under a uid of 60000..64999 that
belongs to nobody else: no passwd entry, no group entry, no process. `initdb` alone insists on a passwd entry; it runs
as `nobody` (or `daemon`) on a fresh directory which is handed to the private uid before the first server starts. For
that second other processes of `nobody` could reach the directory; nothing of value is in it yet, and what they added
would be refused when it is handed over.
"""

import grp
import hashlib
import os
import pwd
from dataclasses import dataclass
from pathlib import Path

import psutil

from registry.database.errors import EmbeddedPostgresError

PRIVATE_UIDS = range(60000, 65000)
BOOTSTRAP_NAMES = ("nobody", "daemon")


@dataclass(frozen=True, slots=True)
class Account:
    """A uid and gid; `is_other` says that it is not the one we run as."""

    uid: int
    gid: int

    @property
    def is_other(self) -> bool:
        return self.uid != os.geteuid()


def own_account() -> Account:
    return Account(uid=os.geteuid(), gid=os.getegid())


def own_name() -> str:
    """Return our user name, which PostgreSQL needs for peer authentication."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise EmbeddedPostgresError(
            f"uid {os.geteuid()} has no passwd entry, so PostgreSQL cannot tell who connects: "
            "add an entry, or set DATABASE_URL"
        ) from None


def bootstrap_account() -> Account:
    """Return who runs `initdb`: ourselves, or for root a passwd entry without privileges."""
    if os.geteuid() != 0:
        return own_account()
    for name in BOOTSTRAP_NAMES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(uid=entry.pw_uid, gid=entry.pw_gid)
    raise EmbeddedPostgresError("as root, initdb needs a passwd entry named nobody or daemon: add one")


def choose_private_account(base: Path) -> Account:
    """Return a free private uid, the same one for the same `base` as long as it is free."""
    taken = _uids_of_processes()
    for uid in candidates(base):
        if uid not in taken and is_unassigned(uid):
            return Account(uid=uid, gid=uid)
    raise EmbeddedPostgresError(f"no free uid in {PRIVATE_UIDS.start}..{PRIVATE_UIDS.stop - 1} to run PostgreSQL under")


def candidates(base: Path) -> list[int]:
    """Return every private uid, beginning at a place that depends on `base` so that two clusters rarely share one."""
    digest = hashlib.sha256(os.fsencode(base)).digest()
    start = int.from_bytes(digest[:8], "big") % len(PRIVATE_UIDS)
    return [*PRIVATE_UIDS[start:], *PRIVATE_UIDS[:start]]


def is_unassigned(uid: int) -> bool:
    """Say whether neither a user nor a group of this number exists."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        pass
    else:
        return False
    try:
        grp.getgrgid(uid)
    except KeyError:
        return True
    return False


def _uids_of_processes() -> set[int]:
    uids: set[int] = set()
    for process in psutil.process_iter():
        try:
            uids.update(process.uids())
        except psutil.Error:
            continue
    return uids
