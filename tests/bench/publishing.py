"""Results as the documents show them: the committed files, and the sections that are made from them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.bench import report
from tests.bench.growth_report import growth_of
from tests.bench.plot import draw

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "performance"
RESULT, GROWTH, PLOT = FOLDER / "bench.json", FOLDER / "growth.json", FOLDER / "bench.svg"
README, PAGE = ROOT / "README.md", ROOT / "docs" / "performance.md"


def publish(file: Path, result: Mapping[str, Any]) -> None:
    """Write a result to its file, and everything that documents say of the results there are."""
    FOLDER.mkdir(exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if file == RESULT:
        draw(result, PLOT)
    for document, sections in expected().items():
        text = document.read_text(encoding="utf-8")
        for name, section in sections.items():
            text = with_section(text, name, section)
        document.write_text(text, encoding="utf-8")


def expected() -> dict[Path, dict[str, str]]:
    """Return what the documents must say, by document and name of the section."""
    sections: dict[Path, dict[str, str]] = {README: {}, PAGE: {}}
    if RESULT.exists():
        result = json.loads(RESULT.read_text(encoding="utf-8"))
        sections[README]["bench"] = report.section(result, f"docs/performance/{PLOT.name}")
        sections[PAGE]["eras"] = report.both_eras(result)
    if GROWTH.exists():
        sections[PAGE]["growth"] = growth_of(json.loads(GROWTH.read_text(encoding="utf-8")))
    return sections


def marks(name: str) -> tuple[str, str]:
    """Return what stands before and after a section."""
    return f"<!-- {name}: begin, made by scripts/bench --publish -->\n", f"\n<!-- {name}: end -->"


def with_section(text: str, name: str, section: str) -> str:
    """Return a document with another text between the marks; ValueError where it has no marks. Pure."""
    begin, end = marks(name)
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the document has no marks for {name}: {begin!r} … {end!r}")
    return f"{before}{begin}{section}{end}{after}"
