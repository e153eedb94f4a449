"""The figures as a picture: an SVG of our own, and a PNG of it where `rsvg-convert` (librsvg2-bin) is installed."""

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from tests.bench.stage import LABELS, Name

WIDTH, ROW, GAP, LEFT, BAR = 900, 30, 46, 250, 470
SHOWN: Sequence[Name] = ("direct", "nginx", "njs", "unaudited", "postern", "forwarder")
COLOURS = {"postern": "#0f766e", "unaudited": "#5eaaa3", "second": "#d97706", "": "#94a3b8"}
STYLE = "font-family:system-ui,'DejaVu Sans',sans-serif;font-size:14px;fill:#1e293b"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: parts with their colours, in the unit of its panel."""

    label: str
    parts: Sequence[tuple[float, str]]
    text: str


def draw(result: Mapping[str, Any], file: Path) -> None:
    """Write the picture; say so where no PNG can be made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(svg_of(result), encoding="utf-8")
    if shutil.which("rsvg-convert") is None:
        sys.stderr.write("no PNG: rsvg-convert is missing. Debian, Ubuntu: apt-get install librsvg2-bin\n")
        return
    png = file.with_suffix(".png")
    subprocess.run(["rsvg-convert", "-z", "2", "-b", "white", "-o", str(png), str(file)], check=True)


def svg_of(result: Mapping[str, Any]) -> str:
    """Return the picture: requests per second, and processor time per request, at 64 callers."""
    era = next(iter(result["figures"]))
    cells = result["figures"][era]
    names: list[Name] = [name for name in SHOWN if name in cells]
    rates = [_rate(name, cells[name]["64"]) for name in names]
    costs = [_cost(name, cells[name]["64"]) for name in names if name != "direct"]
    lines, y = _panel("Requests per second, 64 callers (p50 / p99)", rates, 34)
    more, y = _panel("Processor time per request, µs (of the proxy, and of PostgreSQL)", costs, y + GAP)
    note = f"{result['date']}, {result['machine']['cpu']}, {result['machine']['cores']} cores, protocol {era}, 1 KB each way"
    lines += [*more, _text(20, y + 14, note, "font-size:12px;fill:#64748b")]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 30}" width="{WIDTH}" height="{y + 30}" '
        f'style="{STYLE}"><rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join(lines) + "\n</svg>\n"
    )


def _rate(name: Name, found: Mapping[str, float]) -> Bar:
    text = f"{found['rps']:,.0f}   ({found['p50_us'] / 1000:.1f} / {found['p99_us'] / 1000:.1f} ms)"
    return Bar(_label(name), [(found["rps"], COLOURS.get(name, COLOURS[""]))], text)


def _cost(name: Name, found: Mapping[str, float]) -> Bar:
    parts = [(found["cpu_us"], COLOURS.get(name, COLOURS[""]))]
    if name == "postern":
        parts.append((found["postgres_us"], COLOURS["second"]))
    return Bar(_label(name), parts, " + ".join(f"{value:,.0f}" for value, _ in parts))


def _label(name: Name) -> str:
    return LABELS[name].replace("*", "")


def _panel(title: str, bars: Sequence[Bar], y: int) -> tuple[list[str], int]:
    """Return the lines of one panel and where it ends; what is off the scale is cut, with its figure beside it."""
    sums = sorted(sum(value for value, _ in bar.parts) for bar in bars)
    longest = min(sums[-1], 3 * sums[-2]) if len(sums) > 1 else sums[-1]
    lines = [_text(20, y, title, "font-weight:600")]
    y += 14
    for bar in bars:
        lines.append(_text(LEFT - 10, y + 19, bar.label, "text-anchor:end"))
        x = float(LEFT)
        for value, colour in bar.parts:
            width = min(value / longest, 1.0) * BAR * 0.8
            lines.append(f'<rect x="{x:.1f}" y="{y + 5}" width="{width:.1f}" height="20" fill="{colour}"/>')
            x += width
        lines.append(_text(x + 8, y + 19, bar.text, "fill:#334155"))
        y += ROW
    return lines, y


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" style="{style}">{escape(text)}</text>'
