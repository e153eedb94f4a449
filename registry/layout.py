"""Where everything stands: from a pointer into the merged fleet to file, line and column."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from registry.problems import Place, Problem
from registry.source import Data, Pointer, Source

Section = Literal["servers", "agents"]
SECTIONS: tuple[Section, ...] = ("servers", "agents")


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of one fleet; the root file first. `owners` says which file a server or agent of an include is from.

    `unread` are pointers whose values were unusable, `around_unread` all that hold one: a later finding about either
    would only repeat the first.
    """

    sources: tuple[Source, ...]
    owners: Mapping[tuple[str, str], Source] = field(default_factory=dict[tuple[str, str], Source])
    declared: Mapping[str, Data] = field(default_factory=dict[str, Data])
    unread: frozenset[Pointer] = frozenset()
    around_unread: frozenset[Pointer] = frozenset()
    renumbered: Mapping[Pointer, tuple[int, ...]] = field(default_factory=dict[Pointer, tuple[int, ...]])

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(source.file for source in self.sources)

    def source(self, pointer: Pointer) -> Source:
        """Return the file that a pointer leads into."""
        if len(pointer) > 1:
            return self.owners.get((str(pointer[0]), str(pointer[1])), self.sources[0])
        return self.sources[0]

    def in_files(self, pointer: Pointer) -> Pointer:
        """Turn a pointer into the draft, where list elements may have moved up, into one into the files."""
        parts: list[str | int] = []
        for depth, part in enumerate(pointer):
            indices = self.renumbered.get(pointer[:depth], ())
            parts.append(indices[part] if isinstance(part, int) and part < len(indices) else part)
        return tuple(parts)

    def place(self, pointer: Pointer, *, key: bool = False) -> Place:
        """Return the position of a value (or of its key), or of the nearest thing around it that is written down."""
        return self.source(pointer).locate(pointer, key=key)

    def problem(
        self,
        code: str,
        pointer: Pointer,
        message: str,
        hint: str = "",
        *,
        key: bool = False,
        related: Iterable[Place] = (),
    ) -> Problem:
        """Make a finding about a pointer; the message begins with its dotted name."""
        place = self.place(pointer, key=key)
        text = f"{dotted(pointer)}: {message}" if pointer else message
        return self.source(pointer).problem(code, place.line, place.col, text, hint, *related)

    def is_unread(self, pointer: Pointer) -> bool:
        """Whether the value at, above or below this pointer was unusable."""
        if any(pointer[:length] in self.unread for length in range(len(pointer) + 1)):
            return True
        return pointer in self.around_unread

    def is_declared(self, pointer: Pointer) -> bool:
        """Whether the files have an entry here, usable or not."""
        here: Data = dict(self.declared)
        for part in pointer:
            if isinstance(here, dict) and part in here:
                here = here[str(part)]
            elif isinstance(here, list) and isinstance(part, int) and part < len(here):
                here = here[part]
            else:
                return False
        return True


def dotted(pointer: Pointer) -> str:
    """Return a pointer as people write it: `servers.notes.oauth.keys[0].secret`."""
    text = ""
    for part in pointer:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
