"""`/metrics` in the Prometheus text format: what one worker has recorded, withheld and has in flight. Pure.

Every figure is a count that the worker keeps anyway, so that a scrape costs nothing on the way of a request.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass

from proxy.audit.limits import Counters

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Figures:
    """What a worker knows of itself. `drift` counts by server what is not as pinned now.

    `ended` counts by background job how often it has ended, `unwell` names those that do not run as they should.
    """

    counters: Counters
    is_audit_healthy: bool
    in_flight: int
    queued: int
    drift: Mapping[str, int]
    ended: Mapping[str, int]
    unwell: Collection[str]


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
    lines += _head("postern_background_healthy", "gauge", "Whether a background job of this worker runs.")
    lines += [f'postern_background_healthy{{job="{name}"}} {int(name not in figures.unwell)}' for name in figures.ended]
    lines += _head("postern_background_ended_total", "counter", "How often it has ended and was begun again.")
    lines += [f'postern_background_ended_total{{job="{name}"}} {count}' for name, count in figures.ended.items()]
    return "\n".join(lines) + "\n"


def _sample(name: str, kind: str, told: str, value: int) -> list[str]:
    return [*_head(name, kind, told), f"{name} {value}"]


def _head(name: str, kind: str, told: str) -> Iterable[str]:
    return (f"# HELP {name} {told}", f"# TYPE {name} {kind}")
