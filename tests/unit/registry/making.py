"""Registry files for tests. A line that must be found ends with `#! CODE [CODE …]`."""

import os
import re
from datetime import UTC, datetime
from pathlib import Path

from registry.gate import GateResult, check

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
KEYS = {f"KEY_{letter}": letter.lower() * 32 for letter in "ABCDEFG"}
ENVIRON = {"PATH": os.environ.get("PATH", os.defpath), **KEYS}
_MARKER = re.compile(r"#! ([A-Z][A-Z -]*[A-Z])")

GOOD = "display_name: A, description: Does things., command: [sh]"
OAUTH_A = "oauth: {scopes: [a:use], keys: [{kid: k1, secret: env:KEY_A}]}"
OAUTH_B = "oauth: {scopes: [b:use], keys: [{kid: k1, secret: env:KEY_B}]}"
A = f"{GOOD}, port: 5001, {OAUTH_A}"
B = f"{GOOD}, port: 5002, {OAUTH_B}"
REMOTE = "display_name: R, description: Far away., type: external"


def registry_file(directory: Path, text: str, name: str = "postern.yaml") -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def gate(directory: Path, text: str, *, environ: dict[str, str] | None = None, on_host: bool = True) -> GateResult:
    path = registry_file(directory, text)
    return check(path, environ=environ or ENVIRON, now=NOW, on_host=on_host)


def expected(text: str) -> list[tuple[int, str]]:
    """Return (line, code) of every marker, in file order."""
    found = [
        (number, code)
        for number, line in enumerate(text.split("\n"), start=1)
        for marker in _MARKER.finditer(line)
        for code in marker[1].split()
    ]
    return sorted(found)


def reported(result: GateResult) -> list[tuple[int, str]]:
    return sorted((problem.line, problem.code) for problem in result.problems)
