"""A result as text: the table for a terminal, and the sections of documents between two marks. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.bench.figures import Verdict
from tests.bench.stage import LABELS, Name

ORDER: Sequence[Name] = ("direct", "nginx", "njs", "forwarder", "unaudited", "postern", "sdk", "postern_sdk")
Cells = Mapping[str, Mapping[str, Mapping[str, float]]]


def table(cells: Cells, memory: Mapping[str, float]) -> list[str]:
    """Return the big table of one era in Markdown."""
    head = "| target | callers | requests/s | p50 ms | p99 ms | CPU µs/request | PostgreSQL µs/request | memory MB |"
    lines = [head, "|---|--:|--:|--:|--:|--:|--:|--:|"]
    for name in ORDER:
        for callers, found in sorted(cells.get(name, {}).items(), key=lambda item: int(item[0])):
            lines.append(_row(name, callers, found, memory.get(name)))
    return lines


def _row(name: Name, callers: str, found: Mapping[str, float], memory_mb: float | None) -> str:
    postgres = f"{found['postgres_us']:.0f}" if name in {"postern", "postern_sdk"} else "–"
    return (
        f"| {LABELS[name]} | {callers} | {found['rps']:,.0f} | {found['p50_us'] / 1000:.2f} | {found['p99_us'] / 1000:.2f} "
        f"| {found['cpu_us']:.0f} | {postgres} | {'–' if memory_mb is None else f'{memory_mb:.0f}'} |"
    )


def targets(verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the targets table in Markdown: every target, its figure in each era, met or not."""
    eras = list(dict.fromkeys(str(each["era"]) for each in verdicts))
    lines = [f"| target (64 callers unless said) | limit | {' | '.join(eras)} |", f"|---|--:|{'--:|' * len(eras)}"]
    for figure in dict.fromkeys(str(each["figure"]) for each in verdicts):
        mine = [each for each in verdicts if each["figure"] == figure]
        cells = " | ".join(f"{each['measured']:.2f} {'met' if each['is_met'] else '**not met**'}" for each in mine)
        lines.append(f"| {figure} | {mine[0]['limit']} | {cells} |")
    return lines


def section(result: Mapping[str, Any], plot: str) -> str:
    """Return what the README says about a result. `plot` is the address of the picture."""
    era = next(iter(result["figures"]))
    lines = [
        f"![Requests per second and processor time per request]({plot})",
        "",
        _setting(result),
        "",
        *table(result["figures"][era], result["memory_mb"]),
        "",
        *targets(result["targets"]),
        "",
        _counted(result["rows"]),
    ]
    return "\n".join(lines)


def _setting(result: Mapping[str, Any]) -> str:
    machine, era = result["machine"], next(iter(result["figures"]))
    return (
        f"{result['date']}, `{result['command']}`: medians of {result['rounds']} rounds of {result['seconds']} s a cell; "
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, Python {machine['python']}, "
        f"PostgreSQL {machine['postgres']} with `synchronous_commit=on` and `fsync=on`; {result['placement']}. "
        f"The same `tools/call` for every target, about 1 KB each way, protocol {era}."
    )


def _counted(rows: Mapping[str, int]) -> str:
    return (
        f"Rows counted afterwards: {rows['rows']:,} for {rows['answers']:,} answers; "
        f"{rows['rows'] - rows['answers']:,} calls were under way when the load was cut off."
    )


def both_eras(result: Mapping[str, Any]) -> str:
    """Return the big table of every era that was measured."""
    lines: list[str] = []
    for era, cells in result["figures"].items():
        lines += [f"### Protocol {era}", "", *table(cells, result["memory_mb"]), ""]
    return "\n".join(lines)


def spoken(result: Mapping[str, Any], verdicts: Sequence[Verdict]) -> str:
    """Return what a terminal shows."""
    lines: list[str] = []
    for era, cells in result["figures"].items():
        lines += ["", f"protocol {era}", *table(cells, result["memory_mb"])]
    lines += ["", f"one bare commit: p50 {result['commit_us']:.0f} µs"]
    rows = result["rows"]
    lines.append(
        f"rows {rows['rows']:,}, intents {rows['intents']:,}, answers {rows['answers']:,}, cut off at most {rows['cut']:,}; "
        f"of {rows['exact_answers']:,} answers read to their end {rows['exact_rows']:,} have their row: "
        + ("holds" if rows["holds"] else "DOES NOT HOLD")
    )
    lines.append("")
    for verdict in verdicts:
        word = "met" if verdict.is_met else "NOT MET"
        lines.append(f"{word:8} {verdict.era}  {verdict.figure}: {verdict.measured:.2f} ({verdict.limit})")
    if result["foreign"] > 0.25:
        lines.append(
            f"\nThe machine was not quiet: others used {result['foreign']:.2f} of a core (median over the cells)."
        )
    return "\n".join(lines)
