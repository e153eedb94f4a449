"""The child process of an embedded cluster."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from queue import SimpleQueue

from registry.database.account import Account

_SCRIPT = Path(__file__).with_name("exec_postgres.py")


def spawn_postgres(command: list[str], *, account: Account, log_file: Path, keep_fd: int) -> "subprocess.Popen[bytes]":
    """Start `command` as `account` with `keep_fd` held open by it and all its children.

    Linux ties the parent-death signal to the *thread* that started the child. A thread of its own therefore starts it
    and stays until it ends: a worker thread of an event loop would end early and take the database with it. For the
    same reason the process that calls this must not replace itself by exec.
    """
    born: SimpleQueue[subprocess.Popen[bytes] | OSError] = SimpleQueue()
    argv = [
        sys.executable,
        "-I",
        "-S",
        os.fspath(_SCRIPT),
        str(account.uid),
        str(account.gid),
        str(os.getpid()),
        *command,
    ]

    def keep() -> None:
        try:
            with log_file.open("ab") as log:
                process = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath},
                    cwd="/",
                    pass_fds=(keep_fd,),
                    start_new_session=True,
                )
        except OSError as error:
            born.put(error)
            return
        born.put(process)
        process.wait()

    threading.Thread(target=keep, name="embedded-postgres", daemon=True).start()
    result = born.get()
    if isinstance(result, OSError):
        raise result
    return result
