"""Logs that cannot end supervisord: a record that a full disk does not take is lost, and nothing else is.

As it comes, supervisord reports such a record on its standard error, on the same disk as a rule, and ends by what that
raises; and it starts no program, the listener included, whose log's directory somebody has removed. Standard library
and supervisor only.
"""

import contextlib
import functools
import importlib
from pathlib import Path
from typing import Any

_loggers: Any = importlib.import_module("supervisor.loggers")


def forgive_logs() -> None:
    """Make the logs of supervisord and of its programs lose what cannot be written; twice is as good as once."""
    if not hasattr(_loggers.FileHandler.__init__, "__wrapped__"):
        _loggers.FileHandler.__init__ = _with_directory(_loggers.FileHandler.__init__)
    for kind in (_loggers.FileHandler, _loggers.RotatingFileHandler):
        if not hasattr(kind.emit, "__wrapped__"):
            kind.emit = _forgiving(kind.emit)


def _with_directory(make: Any) -> Any:
    @functools.wraps(make)
    def make_with_directory(handler: Any, filename: str, mode: str = "ab") -> None:
        try:
            make(handler, filename, mode)
        except FileNotFoundError:
            Path(filename).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            make(handler, filename, mode)

    return make_with_directory


def _forgiving(emit: Any) -> Any:
    @functools.wraps(emit)
    def emit_or_lose(handler: Any, record: Any) -> None:
        try:
            emit(handler, record)
        except (OSError, ValueError):
            if handler.stream.closed:  # the file was put aside, and the next one could not be opened
                with contextlib.suppress(OSError):
                    handler.stream = Path(handler.baseFilename).open("ab")  # noqa: SIM115 - the handler's for good

    return emit_or_lose
