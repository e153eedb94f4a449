"""`/metrics` in the Prometheus text format: what one worker has recorded, withheld and has in flight. Pure.

Every figure is a count that the worker keeps anyway, so that a scrape costs nothing on the way of a request.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from proxy.audit.limits import Counters

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Figures:
    """What a worker knows of itself. `drift` counts by server what is not as pinned now."""

    counters: Counters
    is_audit_healthy: bool
    in_flight: int
    queued: int
    drift: Mapping[str, int]


def render(figures: Figures) -> str:
    """Return the exposition."""
    lines = [
        *_sample("postern_audit_healthy", "gauge", "Whether rows can be committed.", int(figures.is_audit_healthy)),
        *_sample("postern_in_flight", "gauge", "Requests that were admitted and are not answered.", figures.in_flight),
        *_sample("postern_audit_queued", "gauge", "Entries that wait for a commit.", figures.queued),
    ]
    for name, value in asdict(figures.counters).items():
        lines += _sample(f"postern_audit_{name}_total", "counter", f"Audit writer: {name}.", value)
    lines += _head("postern_contract_drift", "gauge", "Tools, prompts and resources that are not as pinned, by server.")
    lines += [f'postern_contract_drift{{server="{name}"}} {count}' for name, count in sorted(figures.drift.items())]
    return "\n".join(lines) + "\n"


def _sample(name: str, kind: str, told: str, value: int) -> list[str]:
    return [*_head(name, kind, told), f"{name} {value}"]


def _head(name: str, kind: str, told: str) -> Iterable[str]:
    return (f"# HELP {name} {told}", f"# TYPE {name} {kind}")
