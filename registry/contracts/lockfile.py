"""`postern.lock.yaml` beside the registry: pinned definitions in full, so that a change of one is read like code.

    version: 1
    servers:
      notes:
        server: notes 1.2.0             # where the pins came from; binds nobody
        protocol: 2026-07-28
        instructions: {digest: …, text: …}
        tools:
          add_note:
            digest: sha256:…            # RFC 8785 over `definition`; an edit by hand does not fit it
            definition: {…}

A definition that YAML cannot hold faithfully stands as one line of JSON under `json:`.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from registry.contracts.canonical import NotCanonicalError
from registry.contracts.definitions import KINDS, SINGULAR, Kind, Pin, instructions_digest, name_of
from registry.contracts.lock_writer import is_readable, render
from registry.contracts.locked import Lock, ServerLock
from registry.layout import dotted
from registry.problems import Problem, quoted, quoted_path, render_text
from registry.source import Data, Pointer, Source, parse

SUFFIX = ".lock.yaml"
HEADER = """\
# What each server promised when somebody looked: made by `postern lock`, approved by review.
# `postern lock --diff` shows how the servers differ from it, `postern lock --approve` takes over what they say now.
"""
MAX_BYTES = 33_554_432
_MAX_VALUES = 4_000_000
_VERSION = 1
_MAX_PROBLEMS = 100
_NOT_BY_HAND = "made by `postern lock`, not by hand: take it back from version control, or remove it and lock again"
Section = dict[str, Any]


class LockError(ValueError):
    """The lock file cannot be used; the message names the place and the way out, `problems` are the same as values."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> "LockError":
        """Return the error that tells of these findings."""
        return cls(render_text(problems).rstrip(), problems)


def lock_path(registry: Path) -> Path:
    """Return where the lock of a registry file is: `postern.yaml` has `postern.lock.yaml`."""
    return registry.with_suffix(SUFFIX)


def read_lock(path: Path) -> Lock:
    """Return the lock, an empty one where there is no file; raise `LockError`."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return Lock()
    except OSError as error:
        reason = f"cannot read {quoted_path(path)}: {error.strerror}"
        raise LockError.of([Problem("LOCK-UNREADABLE", str(path), 1, 1, reason, "check its owner and mode")]) from error
    return _parse_lock(content, str(path), MAX_BYTES)


def _parse_lock(content: bytes, shown: str, max_bytes: int) -> Lock:
    source, problems = parse(content, shown, max_bytes=max_bytes, max_values=_MAX_VALUES)
    if problems or source.root is None:
        raise LockError.of(problems)
    return _Reader(source).lock(source.root.data)


def write_lock(path: Path, lock: Lock, max_bytes: int = MAX_BYTES) -> bool:
    """Replace the file in one step; False where it says the same already.

    Raises `LockError`, also where what would be written could not be read again; then the file stays as it was.
    """
    text = render_lock(lock)
    _parse_lock(text.encode(), f"the new {path.name}", max_bytes)
    try:
        if path.exists() and path.read_text(encoding="utf-8") == text:
            return False
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise LockError(f"cannot write {path}: {error.strerror}") from error
    return True


def render_lock(lock: Lock) -> str:
    """Return the file's text; raise `LockError` where a definition cannot be pinned."""
    servers = {name: _server_section(name, lock.servers[name]) for name in sorted(lock.servers)}
    return HEADER + render({"version": _VERSION, "servers": servers})


def _server_section(server: str, lock: ServerLock) -> Section:
    section: Section = {"server": lock.server, "protocol": lock.protocol}
    if lock.instructions is not None:
        section["instructions"] = {"digest": instructions_digest(lock.instructions), **_text(lock.instructions)}
    for kind in KINDS:
        if lock.of(kind):
            section[kind] = {name: _pin_section(server, kind, name, pin) for name, pin in lock.of(kind).items()}
    return section


def _pin_section(server: str, kind: Kind, name: str, pin: Pin) -> Section:
    try:
        digest = pin.digest
    except NotCanonicalError as error:
        raise LockError(f"{server}: {SINGULAR[kind]} {quoted(name)} cannot be pinned: {error}") from error
    definition = cast("Data", pin.definition)
    if is_readable(definition):
        return {"digest": digest, "definition": pin.definition}
    return {"digest": digest, "json": json.dumps(pin.definition)}


def _text(text: str) -> Section:
    return {"text": text} if is_readable(text) else {"json": json.dumps(text)}


class _Reader:
    """Reads the tree of a lock file; every digest is computed again, and everything that is wrong is told at once."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._problems: list[Problem] = []

    def lock(self, data: Data) -> Lock:
        """Return the lock, or raise `LockError`."""
        root = self._mapping(data, ())
        if root.get("version") != _VERSION:
            self._tell(("version",), f"must be {_VERSION}")
        servers = self._mapping(root.get("servers"), ("servers",))
        lock = Lock({name: self._server(name, each) for name, each in servers.items()})
        if self._problems:
            raise LockError.of(self._problems[:_MAX_PROBLEMS])
        return lock

    def _server(self, server: str, data: object) -> ServerLock:
        place: Pointer = ("servers", server)
        section = self._mapping(data, place)
        items: dict[Kind, Mapping[str, Pin]] = {}
        for kind in KINDS:
            if kind in section:
                pins = self._mapping(section[kind], (*place, kind))
                items[kind] = {name: self._pin(kind, name, each, (*place, kind, name)) for name, each in pins.items()}
        text = self._instructions(section["instructions"], place) if "instructions" in section else None
        return ServerLock(items, text, str(section.get("server", "")), str(section.get("protocol", "")))

    def _pin(self, kind: Kind, name: str, data: object, place: Pointer) -> Pin:
        section = self._mapping(data, place)
        definition = _value(section, "definition")
        pin = Pin(cast("Section", definition) if isinstance(definition, dict) else {})
        try:
            fits = pin.digest == section.get("digest")
        except NotCanonicalError:
            fits = False
        if not fits or name_of(kind, pin.definition) != name:
            self._tell((*place, "digest"), "its definition does not fit its digest")
        return pin

    def _instructions(self, data: object, above: Pointer) -> str:
        place: Pointer = (*above, "instructions")
        section = self._mapping(data, place)
        text = _value(section, "text")
        if not isinstance(text, str) or instructions_digest(text) != section.get("digest"):
            self._tell((*place, "digest"), "its text does not fit its digest")
            return ""
        return text

    def _mapping(self, data: object, place: Pointer) -> Section:
        if isinstance(data, dict):
            return cast("Section", data)
        self._tell(place, "must be a mapping")
        return {}

    def _tell(self, pointer: Pointer, what: str) -> None:
        """Keep a finding; what follows from one at or above the same place is not told again."""
        place = self._source.locate(pointer)
        if all((known.line, known.col) != (place.line, place.col) for known in self._problems[-1:]):
            named = f"{dotted(pointer)}: {what}" if pointer else what
            self._problems.append(self._source.problem("LOCK-BROKEN", place.line, place.col, named, _NOT_BY_HAND))


def _value(section: Section, member: str) -> object:
    """Return what stands there, as YAML or as JSON; None where it cannot be read, which fits no digest."""
    if "json" not in section:
        return section.get(member)
    try:
        return json.loads(section["json"])
    except (TypeError, ValueError, RecursionError):
        return None
