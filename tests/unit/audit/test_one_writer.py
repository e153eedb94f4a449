"""Nothing but the audit package touches its tables, and nothing but the executor holds writer and upstream (SPEC A1)."""

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
ROADS = {"proxy.executor", "proxy.roads", "proxy.runtime"}
LENT = {"proxy.execution.conversation", "proxy.guard.makers"}
CLIENTS = {"httpx", "httpx2", "http.client", "urllib.request", "aiohttp", "requests", "mcp"}
DIALS = {"open_connection", "create_connection", "open_unix_connection", "sock_connect"}
OTHER_CLIENTS = {
    "proxy.auth.guarded_fetch",  # key sets of issuers
    "proxy.hooks.webhook",  # hooks of the operator
}
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


def modules() -> dict[str, Path]:
    """The proxy's modules by name, without the upstream client itself and the bridge, a process of its own."""
    apart = (ROOT / "proxy" / "upstream", ROOT / "proxy" / "bridge")
    found = [path for path in (ROOT / "proxy").rglob("*.py") if not any(path.is_relative_to(each) for each in apart)]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in found}


def test_only_the_executor_and_its_wiring_know_the_roads_to_the_servers() -> None:
    clients = {"proxy.upstream.UpstreamPool", "proxy.upstream.pool", "proxy.upstream.connection", "proxy.roads.Road"}
    assert {name for name, path in modules().items() if imported(path) & clients} == ROADS


def test_the_executor_lends_its_road_to_the_conversation_and_to_the_watch_of_contracts_only() -> None:
    assert {name for name, path in modules().items() if "upstream" in called(path)} == LENT


def test_no_other_module_of_the_proxy_can_speak_http() -> None:
    found = {name for name, path in modules().items() if imported(path) & CLIENTS or called(path) & DIALS}
    assert found == OTHER_CLIENTS


def called(path: Path) -> set[str]:
    """The names of methods and functions that a module calls on something."""
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return {each.attr for each in calls if isinstance(each, ast.Attribute)}


def test_only_the_audit_package_writes_its_tables() -> None:
    elsewhere = [
        str(path.relative_to(ROOT))
        for path in [*sources(".py"), *sources(".sql")]
        if WRITES.search(path.read_text()) and path.parent != ROOT / "proxy" / "audit"
    ]
    assert elsewhere == []


def test_no_statement_of_ours_changes_an_entry() -> None:
    """The one that deletes anything takes checkpoints of what is pruned."""
    changing = re.compile(rf"\b(?:update|delete\s+from|truncate)\s+(?:only\s+)?\"?{TABLES}\b", re.IGNORECASE)
    found = [
        (path.name, match)
        for path in [*sources(".py"), *sources(".sql")]
        for match in changing.findall(path.read_text())
    ]
    assert found == [("prune.sql", "delete from audit_checkpoints")]
