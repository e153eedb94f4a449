"""`python -m supervisor_plugin.limited MEMORY FILES -- COMMAND …`: lower the limits, then become COMMAND.

The bridge starts each child of a limited stdio server through it. 0 means no limit.
"""

import os
import sys
from typing import NoReturn

from supervisor_plugin.isolation import Limits, apply_limits, restore_signals


def main(arguments: list[str]) -> NoReturn:
    """Run the command under the limits."""
    memory, files, command = int(arguments[0]), int(arguments[1]), arguments[3:]
    restore_signals()
    apply_limits(Limits(memory or None, files or None))
    os.execvp(command[0], command)  # noqa: S606 - a vector of arguments, and no shell


if __name__ == "__main__":
    main(sys.argv[1:])
