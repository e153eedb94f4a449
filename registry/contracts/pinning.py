"""What `postern lock` finds and writes: the lock as it is, what servers say now, and the lock as it would be. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from registry.contracts.catalogue import Catalogue
from registry.contracts.definitions import KINDS, SINGULAR
from registry.contracts.drift import Drift, compare
from registry.contracts.locked import Lock, ServerLock
from registry.contracts.schemas import Purpose, SchemaError, compile_schema

State = Literal["new", "as pinned", "drifted", "gone", "not reached"]
_SCHEMAS: Mapping[str, Purpose] = {"inputSchema": "input", "outputSchema": "output"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One server: how it stands to the lock. `trouble` says why it could not be asked."""

    server: str
    state: State
    drift: tuple[Drift, ...] = ()
    live: ServerLock | None = None
    warnings: tuple[str, ...] = ()
    trouble: str = ""
    counts: Mapping[str, int] = field(default_factory=dict[str, int])


def find(lock: Lock, server: str, live: Catalogue | str) -> Finding:
    """Judge one server; a text in place of its catalogue says why there is none."""
    if isinstance(live, str):
        return Finding(server, "not reached", trouble=live)
    pins = lock.find(server)
    drift = compare(pins, live) if pins is not None else ()
    state: State = "new" if pins is None else "drifted" if drift else "as pinned"
    counts = {kind: len(live.of(kind)) for kind in KINDS}
    return Finding(server, state, drift, ServerLock.of_catalogue(live), tuple(schema_warnings(live)), "", counts)


def gone(lock: Lock, declared: Sequence[str]) -> tuple[Finding, ...]:
    """Return the servers that are pinned and no longer declared."""
    return tuple(Finding(server, "gone") for server in lock.servers if server not in declared)


def schema_warnings(live: Catalogue) -> Iterator[str]:
    """Say which schemas cannot be checked against: under `strict` such a tool is refused, so it is known before."""
    for name, tool in live.of("tools").items():
        for member, purpose in _SCHEMAS.items():
            if member not in tool:
                if purpose == "input":
                    yield f"tool {name}: it has no inputSchema"
                continue
            try:
                checker = compile_schema(tool[member], purpose)
            except SchemaError as error:
                yield f"tool {name}: its {member} cannot be used: {error}"
                continue
            if checker.backtracks:
                yield f"tool {name}: a pattern of its {member} looks around; it is matched with a step limit"


def adopt(lock: Lock, findings: Sequence[Finding], *, approve: bool) -> Lock:
    """Return the new lock: new servers are pinned; what drifted or is gone only with approval."""
    servers = dict(lock.servers)
    for finding in findings:
        if finding.live is not None and (approve or finding.state == "new"):
            servers[finding.server] = finding.live
        elif finding.state == "gone" and approve:
            del servers[finding.server]
    return Lock(servers)


def render(finding: Finding, *, whole: bool) -> list[str]:
    """Return the lines of one server; `whole` shows both sides of every difference."""
    lines = [f"{finding.server}: {_headline(finding)}"]
    for drift in finding.drift:
        lines.append(f"  {drift}")
        if whole:
            lines += [f"      {line}" for place in drift.places for line in place.lines()]
    return [*lines, *(f"  warning: {warning}" for warning in finding.warnings)]


def _headline(finding: Finding) -> str:
    match finding.state:
        case "not reached":
            return f"not asked: {finding.trouble}"
        case "gone":
            return "pinned, but no longer declared"
        case "drifted":
            return f"{len(finding.drift)} {'thing' if len(finding.drift) == 1 else 'things'} not as pinned"
        case "new" | "as pinned":
            named = [f"{count} {_plural(kind, count)}" for kind, count in finding.counts.items() if count]
            return f"{finding.state}: {', '.join(named) or 'nothing offered'}"


def _plural(kind: str, count: int) -> str:
    word = next(SINGULAR[each] for each in KINDS if each == kind)
    return word if count == 1 else f"{word}s"
