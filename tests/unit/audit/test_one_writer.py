"""Nothing but the audit package touches its tables, and nothing but the wiring holds its writer (SPEC A1)."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGES = ("proxy", "registry", "supervisor_plugin")
TABLES = r"audit_(?:entries|intents|log|writers|checkpoints)"
WRITES = re.compile(
    rf"\b(?:insert\s+into|update|delete\s+from|truncate|copy)\s+(?:only\s+)?\"?{TABLES}\b", re.IGNORECASE
)
HOLDERS = {"proxy.runtime"}
PRIVATE = {"proxy.audit.writer", "proxy.audit.flusher", "proxy.audit.store"}


def sources(suffix: str) -> list[Path]:
    return [path for package in PACKAGES for path in (ROOT / package).rglob(f"*{suffix}")]


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_only_the_wiring_holds_a_writer() -> None:
    holders = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sources(".py")
        if imported(path) & PRIVATE and path.parent != ROOT / "proxy" / "audit"
    }
    assert holders == HOLDERS


def test_only_the_audit_package_writes_its_tables() -> None:
    elsewhere = [
        str(path.relative_to(ROOT))
        for path in [*sources(".py"), *sources(".sql")]
        if WRITES.search(path.read_text()) and path.parent != ROOT / "proxy" / "audit"
    ]
    assert elsewhere == []


def test_no_statement_of_ours_changes_an_entry() -> None:
    changing = re.compile(rf"\b(?:update|delete\s+from|truncate)\s+(?:only\s+)?\"?{TABLES}\b", re.IGNORECASE)
    assert [path.name for path in [*sources(".py"), *sources(".sql")] if changing.search(path.read_text())] == []
