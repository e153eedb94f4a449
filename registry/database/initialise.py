"""A new data directory and the configuration of each start."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from registry.database.account import Account, bootstrap_account, own_account
from registry.database.binaries import Binaries
from registry.database.errors import DataVersionError, EmbeddedPostgresError
from registry.database.layout import Layout, give_to, write_atomically

SUPERUSER: Final = "postgres"
OWNER: Final = "postern_owner"
APPLICATION_ROLES: Final = ("postern_proxy", "postern_auditor", "postern_operator")
DATABASE: Final = "postern"
BOOTSTRAP_TIMEOUT_S: Final = 120.0

_HERE = Path(__file__).parent
_ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}
_INITDB_OPTIONS = (
    "--username=postgres",
    "--no-locale",
    "--encoding=UTF8",
    "--auth-local=peer",
    "--auth-host=reject",
    "--data-checksums",
    "--no-instructions",
)
_SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "cluster_name": "postern",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_checkpoints": "off",
}


def initialise(layout: Layout, binaries: Binaries, account: Account, *, durable: bool = True) -> None:
    """Make the data directory with roles and database; a crash leaves nothing that a next start would use."""
    partial = layout.base / "data.partial"
    bootstrap = bootstrap_account()
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        os.chown(partial, bootstrap.uid, bootstrap.gid)
    except OSError as error:
        raise EmbeddedPostgresError(f"cannot make {partial}: {error}") from error
    _run(
        [os.fspath(binaries.initdb), "-D", os.fspath(partial), *_INITDB_OPTIONS, *([] if durable else ["--no-sync"])],
        bootstrap,
        layout,
    )
    single = [
        os.fspath(binaries.postgres),
        "--single",
        "-j",
        "-D",
        os.fspath(partial),
        "-c",
        "exit_on_error=true",
        "-c",
        f"fsync={'on' if durable else 'off'}",
        SUPERUSER,
    ]
    _run(single, bootstrap, layout, stdin=_bootstrap_sql())
    give_to(partial, account, was=bootstrap)
    partial.rename(layout.data)


def check_version(layout: Layout, binaries: Binaries) -> None:
    """Refuse a data directory of another major version."""
    try:
        major = int((layout.data / "PG_VERSION").read_text().strip())
    except (OSError, ValueError) as error:
        raise EmbeddedPostgresError(f"{layout.data} is no data directory of PostgreSQL: {error}") from error
    if major != binaries.major:
        raise DataVersionError(
            f"{layout.data} was made by PostgreSQL {major}, but {binaries.postgres} is {binaries.version}: "
            f"install PostgreSQL {major} again, or move the data with pg_dump"
        )


def write_configuration(layout: Layout, *, socket_dir: Path, user: str, extra_settings: Mapping[str, str]) -> None:
    """Write postgresql.conf, pg_hba.conf and pg_ident.conf for this start."""
    layout.conf.mkdir(mode=0o755, exist_ok=True)
    files = {name: layout.conf / name for name in ("postgresql.conf", "pg_hba.conf", "pg_ident.conf")}
    settings = {
        **_SETTINGS,
        "data_directory": os.fspath(layout.data),
        "hba_file": os.fspath(files["pg_hba.conf"]),
        "ident_file": os.fspath(files["pg_ident.conf"]),
        "unix_socket_directories": '"' + os.fspath(socket_dir).replace('"', '""') + '"',
        **extra_settings,
    }
    write_atomically(files["postgresql.conf"], render_settings(settings, include=layout.data / "postgresql.conf"))
    write_atomically(files["pg_hba.conf"], "local all all peer map=postern\nlocal replication all peer map=postern\n")
    write_atomically(files["pg_ident.conf"], render_ident(user))


def render_settings(settings: Mapping[str, str], *, include: Path) -> str:
    """Return postgresql.conf: what initdb found out about this machine, then our settings."""
    bad = [name for name, value in settings.items() if not re.fullmatch(r"[A-Za-z_.]+", name) or "\n" in value]
    if bad:
        raise EmbeddedPostgresError(f"not a usable setting: {', '.join(bad)}")
    lines = [f"{name} = {_quoted(value)}" for name, value in settings.items()]
    return "\n".join([f"include {_quoted(os.fspath(include))}", *lines]) + "\n"


def render_ident(user: str) -> str:
    """Return pg_ident.conf: one operating system user may be each of our roles, and nobody else any."""
    escaped = user.replace('"', '""')
    return "".join(f'postern "{escaped}" {role}\n' for role in (SUPERUSER, OWNER, *APPLICATION_ROLES))


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _bootstrap_sql() -> str:
    return "\n\n".join((_HERE / name).read_text() for name in ("roles.sql", "embedded_bootstrap.sql"))


def _run(command: list[str], account: Account, layout: Layout, *, stdin: str = "") -> None:
    """Run a bootstrap program as `account`, its output in the log; the umask keeps every file of it private."""
    other = account if account != own_account() else None
    name = Path(command[0]).name
    with layout.log_file.open("ab") as log:
        log.write(f"-- {name}\n".encode())
        log.flush()
        try:
            done = subprocess.run(
                command,
                input=stdin.encode(),
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_ENVIRONMENT,
                cwd="/",
                umask=0o077,
                user=other.uid if other else None,
                group=other.gid if other else None,
                extra_groups=[] if other else None,
                start_new_session=True,
                timeout=BOOTSTRAP_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise EmbeddedPostgresError(f"{name} did not run: {error}", log_file=layout.log_file) from error
    if done.returncode != 0:
        raise EmbeddedPostgresError(f"{name} failed: {last_complaint(layout.log_file)}", log_file=layout.log_file)


def last_complaint(log_file: Path, *, since: int = 0) -> str:
    """Return the line of the log after offset `since` that most likely says why it failed."""
    with log_file.open("rb") as log:
        log.seek(max(since, log_file.stat().st_size - 65536))
        lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    complaints = [number for number, line in enumerate(lines) if re.search(r"\b(FATAL|PANIC|error):", line)]
    if not lines or not complaints:
        return lines[-1] if lines else "it wrote nothing"
    last = complaints[-1]
    # Of a wrong setting the fatal line says only in which file it is; the line before says which.
    return "; ".join(lines[max(0, last - 1) : last + 1]) if "configuration file" in lines[last] else lines[last]
