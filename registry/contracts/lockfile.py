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
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from registry.contracts.canonical import NotCanonicalError
from registry.contracts.definitions import KINDS, SINGULAR, Kind, Pin, instructions_digest, name_of
from registry.contracts.lock_writer import is_readable, render
from registry.contracts.locked import Lock, ServerLock
from registry.problems import quoted, render_text
from registry.source import Data, parse

SUFFIX = ".lock.yaml"
HEADER = """\
# What each server promised when somebody looked: made by `postern lock`, approved by review.
# `postern lock --diff` shows how the servers differ from it, `postern lock --approve` takes over what they say now.
"""
_VERSION = 1
Section = dict[str, Any]


class LockError(ValueError):
    """The lock file cannot be used; the message names the place and the way out."""


def lock_path(registry: Path) -> Path:
    """Return where the lock of a registry file is: `postern.yaml` has `postern.lock.yaml`."""
    return registry.with_suffix(SUFFIX)


def read_lock(path: Path) -> Lock:
    """Return the lock, an empty one where there is no file; raise `LockError`."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Lock()
    except OSError as error:
        raise LockError(f"cannot read {path}: {error.strerror}") from error
    source, problems = parse(content, str(path))
    if problems or source.root is None:
        raise LockError(render_text(problems).rstrip() or f"{path}: it is empty; run `postern lock`")
    return _Reader(str(path)).lock(source.root.data)


def write_lock(path: Path, lock: Lock) -> bool:
    """Replace the file in one step; False where it says the same already. Raises `LockError`."""
    text = render_lock(lock)
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
    """Reads the tree of a lock file; every digest is computed again."""

    def __init__(self, file: str) -> None:
        self._file = file

    def lock(self, data: Data) -> Lock:
        root = self._mapping(data, "")
        if root.get("version") != _VERSION:
            raise self._error("version", f"must be {_VERSION}")
        servers = self._mapping(root.get("servers"), "servers")
        return Lock({name: self._server(name, self._mapping(each, name)) for name, each in servers.items()})

    def _server(self, server: str, section: Section) -> ServerLock:
        items: dict[Kind, Mapping[str, Pin]] = {}
        for kind in KINDS:
            if kind not in section:
                continue
            pins = self._mapping(section[kind], f"{server}.{kind}")
            items[kind] = {name: self._pin(server, kind, name, each) for name, each in pins.items()}
        instructions = section.get("instructions")
        text = None if instructions is None else self._instructions(server, instructions)
        return ServerLock(items, text, str(section.get("server", "")), str(section.get("protocol", "")))

    def _pin(self, server: str, kind: Kind, name: str, data: object) -> Pin:
        where = f"{server}.{kind}.{name}"
        section = self._mapping(data, where)
        pin = Pin(self._mapping(self._value(section, "definition", where), where))
        try:
            fits = pin.digest == section.get("digest")
        except NotCanonicalError:
            fits = False
        if not fits or name_of(kind, pin.definition) != name:
            raise self._error(where, "does not fit its digest")
        return pin

    def _instructions(self, server: str, data: object) -> str:
        where = f"{server}.instructions"
        section = self._mapping(data, where)
        text = self._value(section, "text", where)
        if not isinstance(text, str) or instructions_digest(text) != section.get("digest"):
            raise self._error(where, "does not fit its digest")
        return text

    def _value(self, section: Section, member: str, where: str) -> object:
        if "json" not in section:
            return section.get(member)
        try:
            return json.loads(section["json"])
        except (TypeError, ValueError) as error:
            raise self._error(where, "its `json` cannot be read") from error

    def _mapping(self, data: object, where: str) -> Section:
        if not isinstance(data, dict):
            raise self._error(where, "must be a mapping")
        return cast("Section", data)

    def _error(self, where: str, what: str) -> LockError:
        hint = "the file is made by `postern lock` and not edited by hand; run it again and review the difference"
        return LockError(f"{self._file}: {quoted(where) if where else 'the file'} {what}; {hint}")
