"""What a cost grows with, as Markdown. Pure."""

from collections.abc import Mapping
from typing import Any

MOST_GROWTH = 1.05
"""Of memory, from a fifth of a million calls on."""


def table(judged: Mapping[str, Any]) -> list[str]:
    """Return one factor as a table in Markdown, with its verdict under it."""
    head = [f"| {judged['factor']} | requests/s | p50 ms | CPU µs/call | PostgreSQL µs/call | memory MB |"]
    head.append("|--:|--:|--:|--:|--:|--:|")
    rows = [
        f"| {line['value']:,} | {line['rps']:,.0f} | {line['p50_us'] / 1000:.2f} | {line['cpu_us']:.0f} "
        f"| {line['postgres_us']:.0f} | {line['memory_mb']:.0f} |"
        for line in judged["lines"]
    ]
    return [*head, *rows, "", _verdict(judged)]


def _verdict(judged: Mapping[str, Any]) -> str:
    word = "met" if judged["is_met"] else "**not met**"
    match judged["rule"]:
        case "steady":
            return f"The dearest against the first: {judged['growth']:.2f} (≤ {judged['limit']:g}, which is noise here): {word}."
        case "linear":
            return f"The steepest step, as a share of its factor's: {judged['growth']:.2f} (≤ {judged['limit']:g}): {word}."
        case _:
            return "Shown, not judged: load, servers and PostgreSQL share the cores with the workers."


def growth_of(result: Mapping[str, Any]) -> str:
    """Return all of it."""
    lines = [part for judged in result["factors"] for part in [*table(judged), ""]]
    if (over := result["million"]) is not None:
        word = "met" if over["is_met"] else "**not met**"
        first, last = over["memory_mb"][0], over["memory_mb"][-1]
        lines.append(
            f"Memory over {over['calls']:,} calls: {first[1]:.0f} MB after {first[0]:,}, {last[1]:.0f} MB at the end; "
            f"from a fifth of them on {over['growth']:.3f} times (≤ {MOST_GROWTH:g}): {word}."
        )
    return "\n".join(lines)
