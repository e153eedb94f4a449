"""YAML text → plain data with the line and column of every node.

Read as YAML 1.2 core schema: `no` is a string, `010` is refused because it means two things. Anchors, aliases, merge
keys and tags are refused, so that what a file says is what stands on its lines. Any bytes end in a tree or in problems,
within bounded time, memory and depth.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias, cast

import yaml
from yaml import events as ev

from registry.problems import Place, Problem, excerpt, names_secret, quoted

Data: TypeAlias = "bool | int | float | str | list[Data] | dict[str, Data] | None"
Pointer: TypeAlias = tuple[str | int, ...]

MAX_BYTES = 4_194_304
MAX_DEPTH = 64
MAX_VALUES = 200_000
MAX_PROBLEMS = 100
_MAX_NUMBER_CHARS = 32
_VARIABLES = frozenset({"env", "variables"})
_REFERENCES = ("env:", "file:", "store:")

_UNREADABLE = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202f-\u2065\u206a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_LINE_BREAK = re.compile("\r\n|\r|\n")
_WORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


@dataclass(slots=True)
class Node:
    """One value with its position (from 1) and, for collections, its parts; `data` is the same value without them."""

    data: Data
    line: int
    col: int
    end_line: int = 0
    end_col: int = 0
    flow: bool = False
    items: "dict[str | int, Node]" = field(default_factory=dict["str | int", "Node"])
    keys: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])


@dataclass(frozen=True, slots=True)
class Source:
    """One parsed file: its name as shown, its lines, and its tree (None if it has none).

    `hidden` gives, for each line with a literal secret on it, the column at which the first one begins; `values` is
    how many there are, keys among them.
    """

    file: str
    lines: tuple[str, ...]
    root: Node | None
    hidden: Mapping[int, int] = field(default_factory=dict[int, int])
    values: int = 0

    def problem(self, code: str, line: int, col: int, message: str, hint: str = "", *related: Place) -> Problem:
        """Make a finding at a position of this file, with its line."""
        return Problem(code, self.file, line, col, message, hint, self.shown(line), related)

    def shown(self, line: int) -> str:
        """Return a line as it may be shown."""
        return excerpt(self.lines[line - 1], self.hidden.get(line)) if 0 < line <= len(self.lines) else ""

    def locate(self, pointer: Pointer, *, key: bool = False) -> Place:
        """Return the place of a node: scalars at their value, collections and `key=True` at their key.

        What is not in the file is placed at the key of the nearest thing around it that is.
        """
        node, place = self.root, Place(self.file)
        if node is None:
            return place
        for depth, part in enumerate(pointer):
            inner = node.items.get(part)
            if inner is None:
                return place
            last = depth == len(pointer) - 1
            at_key = isinstance(inner.data, dict | list) or (key and last)
            line, col = node.keys[part] if at_key and isinstance(part, str) else (inner.line, inner.col)
            node, place = inner, Place(self.file, line, col)
        return place

    def find(self, pointer: Pointer) -> Node | None:
        """Return the node at a pointer, if the file has it."""
        node = self.root
        for part in pointer:
            node = node.items.get(part) if node else None
        return node


def parse(
    text: bytes, file: str, *, max_bytes: int = MAX_BYTES, max_values: int = MAX_VALUES
) -> tuple[Source, tuple[Problem, ...]]:
    """Parse one file. The tree is complete or, after a fatal problem, absent; never an exception."""
    if len(text) > max_bytes:
        return _refused(
            file, "YAML-TOO-LARGE", f"the file has more than {max_bytes:,} bytes", "split it with `include:`"
        )
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        reason = f"not UTF-8: byte 0x{text[error.start]:02x} on line {line}"
        return _refused(file, "YAML-ENCODING", reason, "save the file as UTF-8", line)
    source = Source(file, tuple(_LINE_BREAK.split(decoded)), None)
    strange = _UNREADABLE.search(decoded)
    if strange:
        return source, (_strange_character(source, strange),)
    builder = _Builder(source, max_values)
    root = builder.read(decoded)
    source = Source(file, source.lines, root, builder.hidden, builder.values)
    # Only now is it known which parts of a line are secrets: they may stand behind what is wrong.
    return source, tuple(replace(problem, excerpt=source.shown(problem.line)) for problem in builder.problems)


def _refused(file: str, code: str, message: str, hint: str, line: int = 1) -> tuple[Source, tuple[Problem, ...]]:
    return Source(file, (), None), (Problem(code, file, line, 1, message, hint),)


def _strange_character(source: Source, found: re.Match[str]) -> Problem:
    before = _LINE_BREAK.split(found.string[: found.start()])
    message = f"character U+{ord(found.group()):04X} is not shown by editors, or shown as something else"
    hint = 'remove it, or write it as an escape in a double-quoted string: "\\u…"'
    return source.problem("YAML-CHARACTER", len(before), len(before[-1]) + 1, message, hint)


class _FatalError(Exception):
    """Reading cannot go on; the problem is recorded."""


@dataclass(slots=True)
class _Frame:
    """An open collection; while a mapping `waits` for a value, `key` is its key, or None if the value has no use."""

    node: Node
    key: str | None = None
    waits: bool = False


class _Builder:
    """Builds the tree of one document from parser events, without recursion."""

    def __init__(self, source: Source, max_values: int) -> None:
        self.problems: list[Problem] = []
        self.hidden: dict[int, int] = {}
        self._source = source
        self._stack: list[_Frame] = []
        self._root: Node | None = None
        self.values = 0
        self._max_values = max_values

    def read(self, text: str) -> Node | None:
        try:
            for event in _events(text):
                self._take(event)
        except _FatalError:
            return None
        except yaml.YAMLError as error:
            self._syntax(error)
            return None
        if self._root is None and not self.problems:
            self._report("YAML-EMPTY", 1, 1, "the file is empty", "start with `version: 1`")
        return self._root

    def _report(self, code: str, line: int, col: int, message: str, hint: str, *related: Place) -> None:
        self.problems.append(self._source.problem(code, line, col, message, hint, *related))
        if len(self.problems) >= MAX_PROBLEMS:
            raise _FatalError

    def _syntax(self, error: yaml.YAMLError) -> None:
        mark: yaml.Mark | None = getattr(error, "problem_mark", None)
        start: yaml.Mark | None = getattr(error, "context_mark", None)
        context: str | None = getattr(error, "context", None)
        message: str = getattr(error, "problem", None) or "this cannot be read as YAML"
        line, col = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        if line > len(self._source.lines):  # the end of a file whose last line is not ended
            line, col = len(self._source.lines), len(self._source.lines[-1]) + 1
        if context:
            began = f", which began on line {start.line + 1}" if start and start.line + 1 < line else ""
            message = f"{message} ({context}{began})"
        hint = "look at indentation, quotes and brackets here and on the line above"
        if self._source.lines[line - 1][col - 1 : col] == "\t":
            hint = "there is a tab here: YAML is indented with spaces"
        self.problems.append(self._source.problem("YAML-SYNTAX", line, col, message, hint))

    def _take(self, event: yaml.Event) -> None:
        line, col = event.start_mark.line + 1, event.start_mark.column + 1
        match event:
            case ev.ScalarEvent():
                self._refuse_extras(event, line, col)
                self._scalar(event, line, col)
            case ev.MappingStartEvent() | ev.SequenceStartEvent():
                self._refuse_extras(event, line, col)
                self._open(event, line, col)
            case ev.MappingEndEvent() | ev.SequenceEndEvent():
                frame = self._stack.pop()
                frame.node.end_line, frame.node.end_col = event.end_mark.line + 1, event.end_mark.column + 1
            case ev.AliasEvent():
                self._anchor_problem(f"alias *{event.anchor}", line, col)
                self._attach(Node(None, line, col), None)
            case ev.DocumentStartEvent() if self._root is not None:
                self._report("YAML-DOCUMENTS", line, col, "a second document starts here", "one file, one document")
                raise _FatalError
            case _:
                pass

    def _refuse_extras(self, event: ev.NodeEvent, line: int, col: int) -> None:
        if event.anchor is not None:
            self._anchor_problem(f"anchor &{event.anchor}", line, col)
        tag = getattr(event, "tag", None)
        if tag is not None:
            self._report("YAML-TAG", line, col, f"tag {quoted(tag)}", "write the value without a tag")

    def _anchor_problem(self, what: str, line: int, col: int) -> None:
        self._report("YAML-ANCHOR", line, col, what, "write the value out; what counts must stand on its own line")

    def _scalar(self, event: ev.ScalarEvent, line: int, col: int) -> None:
        plain = event.implicit[0]
        if "\0" in event.value:
            self._report("YAML-CHARACTER", line, col, "the value contains a NUL character", "remove the escape \\0")
        is_key = self._expects_key()
        data = self._plain(event.value, line, col) if plain and not is_key else event.value
        node = Node(data, line, col, event.end_mark.line + 1, event.end_mark.column + 1)
        if not is_key and self._is_secret() and not _is_open(event.value, plain=plain):
            self._hide(node)
        self._attach(node, event.value, plain=plain)

    def _expects_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1].node.data, dict) and not self._stack[-1].waits

    def _is_secret(self) -> bool:
        """Whether a value that comes now may be a secret: by the key it stands under, or as the value of a variable."""
        keys = [frame.key for frame in self._stack[-3:] if frame.key is not None][-2:]
        return any(key in _VARIABLES for key in keys) or bool(keys and names_secret(keys[-1]))

    def _hide(self, node: Node) -> None:
        self.hidden[node.line] = min(node.col, self.hidden.get(node.line, node.col))
        self.hidden.update(dict.fromkeys(range(node.line + 1, node.end_line + (node.end_col > 1)), 1))

    def _plain(self, value: str, line: int, col: int) -> Data:
        try:
            return read_plain(value)
        except ValueError as error:
            self._report("YAML-NUMBER", line, col, f"this number {error}", "put it in quotes if it is text")
            return None

    def _open(self, event: ev.MappingStartEvent | ev.SequenceStartEvent, line: int, col: int) -> None:
        node = Node({} if isinstance(event, ev.MappingStartEvent) else [], line, col, flow=bool(event.flow_style))
        self._attach(node, None)
        if len(self._stack) >= MAX_DEPTH:
            self._report("YAML-TOO-LARGE", line, col, f"nested more than {MAX_DEPTH} levels deep", "flatten it")
            raise _FatalError
        self._stack.append(_Frame(node))

    def _attach(self, node: Node, key: str | None, *, plain: bool = False) -> None:
        """Put a node where it belongs; `key` is the text of a scalar, which may serve as one."""
        self.values += 1
        if self.values > self._max_values:
            message, hint = f"more than {self._max_values:,} values", "split the file"
            if self._max_values < MAX_VALUES:
                message, hint = "with this value all files together hold more than they may", "include less"
            self._report("YAML-TOO-LARGE", node.line, node.col, message, hint)
            raise _FatalError
        if not self._stack:
            self._root = node
            return
        frame = self._stack[-1]
        parent = frame.node
        if isinstance(parent.data, list):
            parent.items[len(parent.data)] = node
            parent.data.append(node.data)
        elif not frame.waits:
            self._take_key(frame, node, key, plain=plain)
        else:
            frame.waits = False
            if frame.key is not None and isinstance(parent.data, dict):
                parent.items[frame.key] = node
                parent.data[frame.key] = node.data

    def _take_key(self, frame: _Frame, node: Node, key: str | None, *, plain: bool) -> None:
        frame.waits, frame.key = True, None
        line, col = node.line, node.col
        known = frame.node.keys
        if not key:
            self._report("YAML-KEY", line, col, "a key must be a non-empty string", "give the entry a name")
        elif key == "<<" and plain:
            self._report("YAML-MERGE", line, col, "merge key <<", "write the merged entries out")
        elif key in known:
            first = Place(self._source.file, *known[key])
            message = f"key {quoted(key)} is already on line {first.line}"
            self._report("YAML-DUPLICATE-KEY", line, col, message, "keep one of the two", first)
        else:
            frame.key = key
            known[key] = (line, col)


def _is_open(text: str, *, plain: bool) -> bool:
    """Whether a value is none that has to be hidden: a reference to a secret, or no secret at all."""
    return text.startswith(_REFERENCES) or (plain and text in _WORDS)


def _events(text: str) -> Iterator[yaml.Event]:
    return cast("Iterator[yaml.Event]", yaml.parse(text, Loader=yaml.CSafeLoader))  # pyright: ignore[reportUnknownMemberType]


def read_plain(value: str) -> Data:
    """Resolve an unquoted scalar by the YAML 1.2 core schema; raises ValueError for numbers that we refuse."""
    if value in _WORDS:
        return _WORDS[value]
    if value[0] not in "+-.0123456789":
        return value
    if _NOT_FINITE.fullmatch(value):
        raise ValueError("is not a finite number")
    if _LEADING_ZERO.fullmatch(value):
        raise ValueError("has a leading zero: octal in YAML 1.1, decimal in YAML 1.2")
    integer = _INTEGER.fullmatch(value)
    if not integer and not _FLOAT.fullmatch(value):
        return value
    if len(value) > _MAX_NUMBER_CHARS:
        raise ValueError(f"has more than {_MAX_NUMBER_CHARS} characters")
    if integer:
        return int(value, 0)
    number = float(value)
    if number in (float("inf"), float("-inf")):
        raise ValueError("is not a finite number")
    return number
