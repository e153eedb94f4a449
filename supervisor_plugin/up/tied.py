"""`python -m supervisor_plugin.up.tied PARENT PROGRAM …`: a program that gets SIGTERM when its parent dies."""

import os
import sys

from supervisor_plugin.isolation import die_with

if __name__ == "__main__":
    die_with(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - a vector of arguments, and no shell
