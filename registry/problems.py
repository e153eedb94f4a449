"""What is wrong in a registry file, and where: one value for every reader, rendered as text, JSON or SARIF.

Lines and columns count from 1, columns in characters. `excerpt` is the offending line with secrets masked, so that a
finding can be pasted into a ticket or a build log.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

MASK = "**********"
_MAX_EXCERPT = 160
_MAX_QUOTED = 60
_MAX_PATH = 1024
_HIDING_WORD = r"(?:secret|passw|passphrase|pwd|token|api[-_]?key|[-_]key|credential|authorization|value)"
_HIDING_NAME = rf"[\w-]*{_HIDING_WORD}[\w-]*"
_HIDING_KEY = re.compile(_HIDING_WORD, re.IGNORECASE)
_SECRET_ENTRY = re.compile(
    rf"""(?P<name>(?:["']{_HIDING_NAME}["']\s*:\s*|{_HIDING_NAME}\s*:\s+))
        (?!["']?(?:env:|file:|store:|true\b|false\b|null\b))(?P<value>[^\s\[{{|>\#].*)""",
    re.IGNORECASE | re.VERBOSE,
)
_MISSPELT = ("secret", "value", "password", "token")
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s]+(@)")


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A position in a registry file."""

    file: str
    line: int = 1
    col: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.col}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. `code` is stable and has a section in docs/problems.md; `hint` says what to do."""

    code: str
    file: str
    line: int
    col: int
    message: str
    hint: str = ""
    excerpt: str = ""
    related: tuple[Place, ...] = ()

    @property
    def place(self) -> Place:
        return Place(self.file, self.line, self.col)


def quoted(value: object) -> str:
    """Return a value from a file as it may be shown in a message: short, on one line, without control characters."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return printable(text if len(text) <= _MAX_QUOTED else text[: _MAX_QUOTED - 1] + "…")


def quoted_path(path: str | os.PathLike[str]) -> str:
    """Return a path as it may be shown in a message: its end tells which file it is, so that only its start is cut."""
    text = os.fspath(path)
    return printable(json.dumps(text if len(text) <= _MAX_PATH else f"…{text[1 - _MAX_PATH :]}", ensure_ascii=False))


def printable(text: str) -> str:
    """Replace what a terminal would act on instead of showing it (control, bidirectional and unpaired characters)."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


@lru_cache(maxsize=1024)
def names_secret(key: str) -> bool:
    """Whether a value under this key is not to be shown: by its name, or by what its name was probably meant to be."""
    return bool(_HIDING_KEY.search(key) or get_close_matches(key.lower()[:64], _MISSPELT, n=1, cutoff=0.75))


def excerpt(line: str, hidden_from: int | None = None) -> str:
    """Return one line of a file as it may be shown: literal secrets masked, cut to a readable length.

    `hidden_from` is the column (from 1) at which one is known to begin; others are found by what stands before them.
    """
    known = line if hidden_from is None else line[: hidden_from - 1] + MASK
    start = known[: 4 * _MAX_EXCERPT].replace("\t", " ")
    masked = _URL_PASSWORD.sub(rf"\g<1>{MASK}\g<2>", _SECRET_ENTRY.sub(rf"\g<name>{MASK}", start))
    return printable(masked[:_MAX_EXCERPT] + ("…" if len(masked) > _MAX_EXCERPT else ""))


def in_file_order(problems: Iterable[Problem], files: Sequence[str] = ()) -> tuple[Problem, ...]:
    """Sort by file (in the order given, then by name), line and column; the same finding appears once."""
    rank = {file: index for index, file in enumerate(files)}
    unique = dict.fromkeys(problems)
    return tuple(sorted(unique, key=lambda p: (rank.get(p.file, len(rank)), p.file, p.line, p.col, p.code, p.message)))


def render_text(problems: Sequence[Problem]) -> str:
    """Return `file:line:col: CODE message`, the line with a caret, and the hint of each finding; then a count."""
    if not problems:
        return ""
    blocks = [_block(problem) for problem in problems]
    files = len({problem.file for problem in problems})
    count = f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'}"
    return "\n".join([*blocks, f"{count} in {files} {'file' if files == 1 else 'files'}: nothing starts.", ""])


def _block(problem: Problem) -> str:
    lines = [f"{printable(problem.file)}:{problem.line}:{problem.col}: {problem.code} {printable(problem.message)}"]
    if problem.excerpt:
        margin = f"{problem.line:>5} | "
        caret = " " * (min(problem.col, len(problem.excerpt) + 1) - 1) + "^"
        lines += [margin + problem.excerpt, " " * (len(margin) - 2) + "| " + caret]
    if problem.hint:
        lines.append(f"      hint: {printable(problem.hint)}")
    return "\n".join((*lines, ""))


def render_json(problems: Sequence[Problem]) -> str:
    """Return `{"ok": …, "problems": [...]}`; the keys are the fields of `Problem`."""
    listed = [asdict(problem) for problem in problems]
    return _json({"ok": not listed, "problems": listed})


def render_sarif(problems: Sequence[Problem]) -> str:
    """Return a SARIF 2.1.0 log with one run, as code-scanning services read it."""
    codes = sorted({problem.code for problem in problems})
    driver = {"name": "postern check", "rules": [{"id": code, "help": {"text": _help(code)}} for code in codes]}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_sarif_result(problem, codes.index(problem.code)) for problem in problems],
    }
    log = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}
    return _json(log)


def _json(document: Mapping[str, object]) -> str:
    """Return JSON text that any output takes: a file name that is not UTF-8 appears with escapes."""
    text = json.dumps(document, ensure_ascii=False, indent=2) + "\n"
    is_text = text.encode(errors="replace").decode() == text
    return text if is_text else json.dumps(document, indent=2) + "\n"


def _help(code: str) -> str:
    return f"docs/problems.md#{code.lower()}"


def _sarif_result(problem: Problem, rule_index: int) -> dict[str, object]:
    text = f"{problem.message}\n{problem.hint}" if problem.hint else problem.message
    result: dict[str, object] = {
        "ruleId": problem.code,
        "ruleIndex": rule_index,
        "level": "error",
        "message": {"text": text},
        "locations": [_sarif_location(problem.place)],
    }
    if problem.related:
        result["relatedLocations"] = [_sarif_location(place) for place in problem.related]
    return result


def _sarif_location(place: Place) -> dict[str, object]:
    path = Path(place.file)
    uri = path.as_uri() if path.is_absolute() else quote(path.as_posix(), errors="surrogateescape")
    region = {"startLine": place.line, "startColumn": place.col}
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}
