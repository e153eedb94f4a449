"""A new signing key for one server, as an edit of the registry file that keeps every other character as it is.

The new key comes first, because issuers sign with the first key; the one before it gets `not_after`, the end of the
overlap in which tokens of both are good. Keys that have already ended are left to be removed by hand.
"""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from registry.layout import Layout
from registry.models import Key, Server
from registry.rules.keys import read_date
from registry.source import Data, Node, Pointer, Source, parse

MAX_OVERLAP = timedelta(days=90)


class RotationError(Exception):
    """The file cannot be edited safely; the message says what to write by hand."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """What is about to be written: the file, its new text, the new key, and when the old ones end (RFC 3339)."""

    file: Path
    text: str
    key: Key
    ends: str


def plan_rotation(
    layout: Layout, server: Server, key: Key, *, now: datetime, overlap: timedelta, newline: str = "\n"
) -> Rotation:
    """Return the edited file of a server, lines ending in `newline`; raises `RotationError`. Writes nothing."""
    source = layout.source(("servers", server.name))
    pointer: Pointer = ("servers", server.name, "oauth", "keys")
    listed = source.find(pointer)
    if listed is None or not listed.items:
        raise RotationError(f"servers.{server.name} has no `oauth.keys:` to rotate")
    ends = (now + overlap).astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
    edits = [_insertion_of(key, listed)]
    for index, old in enumerate(server.oauth.keys):
        if _outlives(old, now + overlap):
            edits.append(_ending_of(listed.items[index], ends))
    text = _edited(source, edits)
    _verify(text, source, pointer, len(server.oauth.keys) + 1, key)
    return Rotation(Path(source.file), text.replace("\n", newline), key, ends)


def _outlives(key: Key, end: datetime) -> bool:
    current = read_date(key.not_after) if key.not_after else None
    return current is None or current > end


@dataclass(frozen=True, slots=True)
class _Edit:
    """Replace the text between two positions (line and column from 1) by another."""

    start: tuple[int, int]
    end: tuple[int, int]
    text: str


def _insertion_of(key: Key, listed: Node) -> _Edit:
    here = (listed.line, listed.col)
    if listed.flow:
        after = (listed.line, listed.col + 1)
        return _Edit(after, after, f"{{kid: {_quoted(key.kid)}, secret: {_quoted(key.secret)}}}, ")
    margin = " " * (listed.col - 1)
    return _Edit(here, here, f"- kid: {_quoted(key.kid)}\n{margin}  secret: {_quoted(key.secret)}\n{margin}")


def _ending_of(old: Node, ends: str) -> _Edit:
    existing = old.items.get("not_after")
    if existing:
        return _Edit((existing.line, existing.col), (existing.end_line, existing.end_col), _quoted(ends))
    if old.flow:
        before_brace = (old.end_line, old.end_col - 1)
        return _Edit(before_brace, before_brace, f", not_after: {_quoted(ends)}")
    here = (old.line, old.col)
    return _Edit(here, here, f"not_after: {_quoted(ends)}\n{' ' * (old.col - 1)}")


def _quoted(text: str) -> str:
    return f'"{text}"'


def _edited(source: Source, edits: list[_Edit]) -> str:
    lines = list(source.lines)
    for edit in sorted(edits, key=lambda e: e.start, reverse=True):
        (first, col), (last, end_col) = edit.start, edit.end
        head, tail = lines[first - 1][: col - 1], lines[last - 1][end_col - 1 :]
        lines[first - 1 : last] = (head + edit.text + tail).split("\n")
    return "\n".join(lines)


def _verify(text: str, source: Source, pointer: Pointer, count: int, key: Key) -> None:
    """Read the edited text back: everything else must be as it was."""
    edited, problems = parse(text.encode(), source.file)
    keys = edited.find(pointer)
    before = source.find(pointer)
    if problems or keys is None or before is None or len(keys.items) != count:
        raise RotationError(_by_hand(key))
    new, *old = [node.data for node in keys.items.values()]
    given = [node.data for node in before.items.values()]
    kept = [_without_end(a) == _without_end(b) for a, b in zip(old, given, strict=True)]
    if new != {"kid": key.kid, "secret": key.secret} or not all(kept):
        raise RotationError(_by_hand(key))


def _without_end(entry: Data) -> Data:
    return {k: v for k, v in entry.items() if k != "not_after"} if isinstance(entry, dict) else entry


def _by_hand(key: Key) -> str:
    return (
        "this file cannot be edited safely; add this as the first of `keys:` and give the others a `not_after:` - "
        f'{{kid: "{key.kid}", secret: "{key.secret}"}}'
    )


def write_text(path: Path, text: str) -> None:
    """Replace a file's content atomically, keeping its mode and, where possible, its owner."""
    target = path.resolve()
    status = target.stat()
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with temporary.open("x", newline="") as file:
            os.fchmod(file.fileno(), status.st_mode & 0o7777)
            if os.geteuid() == 0:
                os.fchown(file.fileno(), status.st_uid, status.st_gid)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
