"""Lines on the bridge's standard error, which supervisord keeps."""

import sys
from contextlib import suppress


def write_line(label: str, line: str | bytes) -> None:
    """One line with its origin in front; nothing happens when nobody reads any more."""
    raw = line.encode(errors="replace") if isinstance(line, str) else line
    with suppress(OSError):
        sys.stderr.buffer.write(b"[" + label.encode() + b"] " + raw + b"\n")
        sys.stderr.buffer.flush()
