"""Output that cannot be written: no fault of what was read, and no reason for a traceback."""

import errno
import os
import sys

import click

EXIT_CANNOT = 3
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def end_if_output_is_full(error: BaseException) -> None:
    """Say that the disk behind standard output, or behind a file that was to be written, is full, and exit 3."""
    if isinstance(error, OSError) and error.errno in FULL:
        _drop_the_rest()
        click.echo(f"postern: the output cannot be written: {error.strerror}", err=True)
        sys.exit(EXIT_CANNOT)


def end_if_reader_left(error: BaseException, code: int = 0) -> None:
    """Exit without a word where whoever read our output (`| head`) has what they wanted."""
    if isinstance(error, BrokenPipeError):
        _drop_the_rest()
        sys.exit(code)


def _drop_the_rest() -> None:
    """Let the interpreter's last flush meet nothing that can fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
