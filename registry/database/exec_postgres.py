"""Started as a program: become the server's user, tie our life to the parent's, then be PostgreSQL.

    python -I -S exec_postgres.py UID GID PARENT_PID PROGRAM ARGUMENT...

The order matters: changing the uid clears the parent-death signal, so it is set afterwards; and the parent may have
died before it was set, so that is checked last.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    uid, gid, parent, *command = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.umask(0o077)
    if os.geteuid() != int(uid):
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    if sys.platform == "linux":
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
        if os.getppid() != int(parent):
            sys.exit("the starting process is gone")
    os.execv(command[0], command)  # noqa: S606  an argv list, no shell


if __name__ == "__main__":
    main()
