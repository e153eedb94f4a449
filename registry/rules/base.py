"""What a rule gets and gives."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from registry.contracts.locked import Lock
from registry.layout import Layout
from registry.models import Fleet, Server, Variable
from registry.secrets import Secret, SecretError, SecretStore, resolve, resolve_variable
from registry.source import Pointer


class Which(Protocol):
    """Finds a program on a search path, as `shutil.which` does."""

    def __call__(self, cmd: str, *, path: str | None = None) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Context:
    """The fleet, where it is written down, and the machine that it is to run on. `now` is aware.

    `lock` is what is pinned; None where nobody asks, or where the lock file has findings of its own.
    """

    fleet: Fleet
    layout: Layout
    base: Path
    environ: Mapping[str, str]
    now: datetime
    which: Which = shutil.which
    store: SecretStore | None = None
    on_host: bool = True
    only: str | None = None
    lock: Lock | None = None
    lock_file: str = ""
    _resolved: dict[str, Secret | SecretError] = field(default_factory=dict[str, Secret | SecretError])
    _variables: "dict[tuple[str, Variable], SecretError | None]" = field(
        default_factory=dict["tuple[str, Variable]", "SecretError | None"]
    )

    @property
    def is_cloud(self) -> bool:
        return self.fleet.fleet.mode == "cloud"

    def servers(self) -> tuple[Server, ...]:
        """Return the servers that exist now, or only the one in question; a disabled one has to be well-formed."""
        return tuple(server for server in self.fleet.enabled_servers() if self.only in {None, server.name})

    def secret(self, reference: str) -> Secret | SecretError:
        """Resolve a reference once; the error is a value, because a rule reports it. Literals are judged elsewhere."""
        if reference not in self._resolved:
            try:
                found = resolve(reference, base=self.base, environ=self.environ, store=self.store, allow_literal=True)
            except SecretError as error:
                found = error
            self._resolved[reference] = found
        return self._resolved[reference]

    def variable_error(self, name: str, variable: Variable) -> SecretError | None:
        """Return why a declared variable has no value; None if it has one or needs none. Found out once."""
        known = (name, variable)
        if known not in self._variables:
            self._variables[known] = self._variable_error(name, variable)
        return self._variables[known]

    def _variable_error(self, name: str, variable: Variable) -> SecretError | None:
        try:
            resolve_variable(name, variable, base=self.base, environ=self.environ, store=self.store, allow_literal=True)
        except SecretError as error:
            return error
        return None


@dataclass(frozen=True, slots=True)
class Finding:
    """One violation of a rule. `hint` replaces the rule's own; `related` are the other places that it is about."""

    pointer: Pointer
    message: str
    hint: str = ""
    key: bool = False
    related: tuple[Pointer, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """A stable code, what to do about it, and the function that finds it.

    `needs_host` marks what only the machine of the fleet can answer: files, programs, secrets.
    """

    code: str
    hint: str
    find: Callable[[Context], Iterable[Finding]]
    needs_host: bool = False


def at(server: Server, *parts: str | int) -> Pointer:
    """Return the pointer of something in a server's section."""
    return ("servers", server.name, *parts)


def placed(context: Context, pointer: Pointer) -> str:
    """Return a pointer with its place, as a message names the other side of a conflict."""
    place = context.layout.place(context.layout.in_files(pointer))
    return f"{'.'.join(map(str, pointer[:2]))} ({place})"


def repeated(entries: Iterable[tuple[object, Pointer]]) -> Iterator[tuple[Pointer, Pointer]]:
    """Pair each pointer whose value was seen before with the first one that has it."""
    first: dict[object, Pointer] = {}
    for value, pointer in entries:
        if value in first:
            yield pointer, first[value]
        else:
            first[value] = pointer
