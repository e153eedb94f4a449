"""Files → a `Fleet`, or problems. The only reader of registry files."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from registry.layout import SECTIONS, Layout
from registry.models import Fleet
from registry.problems import Place, Problem, in_file_order, quoted, quoted_path
from registry.salvage import salvage
from registry.schema_problems import near, schema_problems
from registry.shorthand import expand
from registry.source import MAX_BYTES, MAX_VALUES, Data, Pointer, Source, parse

MAX_FILES = 1_000
MAX_TOTAL_BYTES = 16_777_216
MAX_TOTAL_VALUES = 400_000


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the files say. `fleet` is there only without a problem.

    `draft` is the fleet without its unusable parts, so that the rules can be tried on the rest; nothing may run on it.
    """

    fleet: Fleet | None
    problems: tuple[Problem, ...]
    draft: Fleet | None
    layout: Layout


def load(path: Path, *, max_values: int = MAX_TOTAL_VALUES) -> Loaded:
    """Read a registry file and what it includes. Raises nothing: whatever is wrong is among the problems."""
    files = _Files(path, max_values)
    root = files.read(path, str(path))
    for pointer, pattern in _patterns(root, files):
        files.include(root, pointer, pattern)
    data, owners = _merge(files)
    layout = Layout(tuple(files.sources), owners, data)
    if not isinstance(root.root.data if root.root else None, dict):
        if root.root and not files.problems:
            files.problems.append(root.problem("SCHEMA-TYPE", 1, 1, "must be a mapping", "start with `version: 1`"))
        return Loaded(None, in_file_order(files.problems, layout.files), None, layout)
    found = salvage(expand(data, path.absolute().parent))
    problems = [*files.problems, *_beside(files.problems, schema_problems(found.errors, layout))]
    ordered = in_file_order(problems, layout.files)
    around = frozenset(pointer[:length] for pointer in found.unread for length in range(len(pointer)))
    layout = replace(layout, unread=found.unread, around_unread=around, renumbered=found.renumbered)
    return Loaded(None if ordered else found.draft, ordered, found.draft, layout)


def _beside(known: list[Problem], found: list[Problem]) -> list[Problem]:
    """Leave out what stands where something is already known to be wrong."""
    taken = {problem.place for problem in known}
    return [problem for problem in found if problem.place not in taken]


@dataclass(slots=True)
class _Files:
    """The files read so far, within the limits on their number, total size and total number of values."""

    root: Path
    max_values: int
    sources: list[Source] = field(default_factory=list[Source])
    problems: list[Problem] = field(default_factory=list[Problem])
    seen: set[Path] = field(default_factory=set[Path])
    total: int = 0
    values: int = 0

    def read(self, path: Path, shown: str, at: Problem | None = None) -> Source:
        """Read and parse one file; `at` is where it is included, for the case that it cannot be read."""
        self.seen.add(path.absolute())
        try:
            content = _regular_file(path)
        except (OSError, ValueError) as error:
            reason = f"cannot read {quoted_path(shown)}: {getattr(error, 'strerror', None) or error}"
            hint = "name an existing file, or set POSTERN_REGISTRY" if at is None else "check its name and its mode"
            self.problems.append(replace(at or Problem("FILE-UNREADABLE", shown, 1, 1, ""), message=reason, hint=hint))
            source, problems = Source(shown, (), None), ()
        else:
            self.total += len(content)
            source, problems = parse(content, shown, max_values=min(MAX_VALUES, self.max_values - self.values))
            self.values += source.values
        self.sources.append(source)
        self.problems.extend(problems)
        return source

    def include(self, root: Source, pointer: Pointer, pattern: str) -> None:
        place = root.locate(pointer)
        matches, reason = _matching(self.root.parent, pattern)
        if reason:
            hint = "a path relative to this file; * only in the file name: servers/*.yaml"
            self.problems.append(root.problem("INCLUDE-PATTERN", place.line, place.col, reason, hint))
        elif not matches:
            message = f"{quoted(pattern)} matches no file"
            hint = "mend the pattern, or remove it until there is a file"
            self.problems.append(root.problem("INCLUDE-NOTHING", place.line, place.col, message, hint))
        for path in matches:
            if path.absolute() in self.seen or not self._has_room(root, place):
                continue
            unreadable = root.problem("FILE-UNREADABLE", place.line, place.col, "")
            self._check_sections(self.read(path, str(path), unreadable))

    def _has_room(self, root: Source, place: Place) -> bool:
        is_small = self.total <= MAX_TOTAL_BYTES and self.values < self.max_values
        if len(self.sources) <= MAX_FILES and is_small:
            return True
        message = f"more than {MAX_FILES} files, {MAX_TOTAL_BYTES:,} bytes or {self.max_values:,} values in all"
        self.problems.append(root.problem("YAML-TOO-LARGE", place.line, place.col, message, "include less"))
        return False

    def _check_sections(self, source: Source) -> None:
        if source.root is None:
            return
        if not isinstance(source.root.data, dict):
            self.problems.append(source.problem("SCHEMA-TYPE", 1, 1, "must be a mapping", "begin with `servers:`"))
        for key, (line, col) in source.root.keys.items():
            if key not in SECTIONS:
                hint = near(key, SECTIONS) or "an included file holds `servers:` and `agents:`; the rest is in the root"
                self.problems.append(source.problem("SCHEMA-UNKNOWN-KEY", line, col, f"{key}: unknown key", hint))


def _regular_file(path: Path) -> bytes:
    """Read at most one byte more than the limit; a pipe or device is refused instead of waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "not a regular file")
        return file.read(MAX_BYTES + 1)


def _patterns(root: Source, files: _Files) -> Iterator[tuple[Pointer, str]]:
    node = root.find(("include",))
    if node is None:
        return
    listed = [(("include",), node.data)] if isinstance(node.data, str) else None
    if isinstance(node.data, list):
        listed = [(("include", index), pattern) for index, pattern in enumerate(node.data)]
    for pointer, pattern in listed or [(("include",), None)]:
        if isinstance(pattern, str):
            yield pointer, pattern
        elif node.data != []:
            place = root.locate(pointer)
            message, hint = f"{pointer[0]}: must be a list of file patterns", "include: [servers/*.yaml]"
            files.problems.append(root.problem("SCHEMA-TYPE", place.line, place.col, message, hint))


def _matching(base: Path, pattern: str) -> tuple[list[Path], str]:
    """Return the files that a pattern means, sorted, or why it is refused."""
    *folders, name = pattern.split("/")
    if pattern.startswith("/") or ".." in (*folders, name) or not name:
        return [], f"{quoted(pattern)} does not stay below this file's directory"
    if any(set("*?[") & set(part) for part in folders) or "**" in name:
        return [], f"{quoted(pattern)} has a wildcard outside the file name"
    try:
        return sorted(path for path in base.joinpath(*folders).glob(name) if not path.is_dir()), ""
    except (OSError, ValueError, NotImplementedError) as error:
        return [], f"{quoted(pattern)} is not a usable pattern: {error}"


def _merge(files: _Files) -> tuple[dict[str, Data], dict[tuple[str, str], Source]]:
    """Join the sections of all files; a name that appears twice belongs to the file that has it first."""
    root, *included = files.sources
    top = root.root.data if root.root else None
    data = {key: value for key, value in top.items() if key != "include"} if isinstance(top, dict) else {}
    owners: dict[tuple[str, str], Source] = {}
    for source in included:
        for section in SECTIONS:
            _adopt(files, source, section, data, owners)
    return data, owners


def _adopt(
    files: _Files, source: Source, section: str, data: dict[str, Data], owners: dict[tuple[str, str], Source]
) -> None:
    node = source.find((section,))
    if node is None:
        return
    if not isinstance(node.data, dict):
        place = source.locate((section,))
        files.problems.append(source.problem("SCHEMA-TYPE", place.line, place.col, f"{section}: must be a mapping"))
        return
    existing = data.get(section)
    merged = dict(existing) if isinstance(existing, dict) else {}
    for name, entry in node.data.items():
        if name in merged:
            first = owners.get((section, name), files.sources[0]).locate((section, name), key=True)
            line, col = node.keys[name]
            message, hint = f"{section}.{name} is already at {first}", "give one of the two another name"
            files.problems.append(source.problem("NAME-DUPLICATE", line, col, message, hint, first))
        else:
            merged[name] = entry
            owners[section, name] = source
    if existing is None or isinstance(existing, dict):
        data[section] = merged
