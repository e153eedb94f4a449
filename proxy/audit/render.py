"""Rows for people and for machines. Pure.

What a row holds was written by strangers: nothing of it may reach a terminal as a control sequence.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from registry.database.driver import Record

STYLES: Final = {
    "success": "green",
    "tool_error": "yellow",
    "failed": "red",
    "denied": "magenta",
    "timeout": "red",
    "cancelled": "dim",
    "interrupted": "bold red",
}
PAYLOADS: Final = ("input", "output")
_HIDDEN_IN_FULL: Final = frozenset({*PAYLOADS, "kind", "format"})


def json_line(row: Record) -> str:
    """Return a row as one line of JSON; times in ISO 8601 UTC, bytes in hex."""
    return json.dumps({key: plain(value) for key, value in row.items()}, ensure_ascii=False, separators=(",", ":"))


def plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case UUID():
            return str(value)
        case bytes():
            return value.hex()
        case _:
            return value


def shown(text: str) -> str:
    r"""Return a text that is safe on a terminal: control and format characters as \x1b or \u202e."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def clock(value: datetime) -> str:
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}.{value.microsecond // 1000:03d}"


def duration(microseconds: int | None) -> str:
    if microseconds is None:
        return ""
    return f"{microseconds / 1000:.1f} ms" if microseconds < 1_000_000 else f"{microseconds / 1_000_000:.1f} s"


WIDE: Final = 160
UNBROKEN: Final = frozenset({"STARTED (UTC)", "STARTED (UTC), EXECUTION", "EXECUTION", "TOOK"})
NARROW_HEADINGS: Final = ("STARTED (UTC), EXECUTION", "SERVER, WHAT", "STATUS, DECISION", "WHO, LET IN BY")
HEADINGS: Final = ("STARTED (UTC)", "SERVER", "WHAT", "STATUS", "DECISION", "WHO", "LET IN BY", "TOOK", "EXECUTION")


def cells(row: Record) -> tuple[Text, ...]:
    """Return a row as the cells of the overview."""
    what = row["tool"] if row["method"] == "tools/call" and row["tool"] else row["method"] or row["http_method"]
    who = " / ".join(part for part in (row["subject"], row["agent"]) if part) or row["auth_method"]
    many = f" ×{row['repeats']}" if row["repeats"] != 1 else ""
    return (
        Text(clock(row["started_at"])),
        Text(shown(row["server"])),
        Text(shown(what)),
        Text(row["status"] + many, STYLES.get(row["status"], "")),
        Text(f"{row['http_status']} {shown(row['decision'])}"),
        Text(shown(who)),
        Text(shown(" ".join(row["scopes_matched"]))),
        Text(duration(row["duration_us"]), justify="right"),
        Text(str(row["execution_id"])),
    )


def overview(rows: Iterable[Record], width: int) -> Table:
    """Return the table of a query: one line a row, or two where the terminal is narrow."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    headings = HEADINGS if width >= WIDE else NARROW_HEADINGS
    for heading in headings:
        table.add_column(heading, no_wrap=heading in UNBROKEN, overflow="fold")
    for row in rows:
        table.add_row(*(cells(row) if width >= WIDE else _stacked(cells(row))))
    return table


def line(row: Record) -> Text:
    """Return a row as one line of a tail."""
    when, server, what, status, decision, who, scopes, took, execution = cells(row)
    return Text(" ").join([when, server, what, status, decision, who, scopes, took, Text(execution.plain, "dim")])


def in_full(row: Record, intent: Record | None) -> RenderableType:
    """Return all of a row, payloads indented."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key, value in row.items():
        if key not in _HIDDEN_IN_FULL and value is not None:
            table.add_row(key, Text(shown(_words(plain(value))), STYLES.get(value, "") if key == "status" else ""))
    if intent is not None:
        table.add_row("intent", Text(f"seq {intent['seq']} of writer {intent['writer_id']}"))
    parts: list[RenderableType] = [table]
    for name in PAYLOADS:
        if row.get(name) is not None:
            parts += [Text(f"\n{name}", "bold"), Text(_indented(row[name]))]
    return Group(*parts)


def figures(rows: Sequence[Record], by: str) -> Table:
    """Return the table of `stats`."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(by.upper())
    for heading in ("REQUESTS", "DENIED", "FAILED", "INTERRUPTED", "P50", "P95", "P99", "OWN P50"):
        table.add_column(heading, justify="right")
    for row in rows:
        counts = [str(row[key]) for key in ("requests", "denied", "failed", "interrupted")]
        times = [duration(row[key]) for key in ("p50_us", "p95_us", "p99_us", "own_p50_us")]
        table.add_row(Text(shown(row["name"] or "-")), *counts, *times)
    return table


def _stacked(row: Sequence[Text]) -> tuple[Text, ...]:
    when, server, what, status, decision, who, scopes, took, execution = row
    over = Text("\n")
    pairs = (
        (Text("  ").join((when, took)), Text(execution.plain, "dim")),
        (server, what),
        (status, decision),
        (who, scopes),
    )
    return tuple(over.join(pair) for pair in pairs)


def _words(value: Any) -> str:
    return " ".join(value) if isinstance(value, list) else str(value)  # pyright: ignore[reportUnknownArgumentType]


def _indented(payload: str) -> str:
    try:
        text = json.dumps(json.loads(payload), indent=2, ensure_ascii=False)
    except ValueError:
        text = payload
    return "\n".join(shown(each) for each in text.split("\n"))
