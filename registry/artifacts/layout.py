"""Rules of forms, cards and dashboards: what people see and click. Pure."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any, cast
from urllib.parse import urlsplit

from registry.artifacts.faults import fault, repeated
from registry.artifacts.tabular import is_date, is_datetime, is_integer
from registry.models import ArtifactKind

GRID = 12
_CHOICES = frozenset({"select", "multiselect"})
_NUMBERS = frozenset({"number", "integer"})
_SCHEMES = frozenset({"https", "http", "mailto"})
Document = Mapping[str, Any]
CheckDocument = Callable[[ArtifactKind, object], str | None]


def form_fault(form: Document) -> str | None:
    """Fields have different names; choices have options; bounds and defaults fit their field."""
    fields: list[Document] = form["fields"]
    for index in repeated(each["name"] for each in fields):
        return fault(f"/fields/{index}/name", "is there twice")
    for index, each in enumerate(fields):
        wrong = _field_fault(each)
        if wrong is not None:
            return fault(f"/fields/{index}{wrong[0]}", wrong[1])
    return None


def _field_fault(field: Document) -> tuple[str, str] | None:
    kind = field["type"]
    if kind in _CHOICES and "options" not in field:
        return "/options", f"is missing; a {kind} needs them"
    if kind not in _CHOICES and "options" in field:
        return "/options", f"a {kind} has none"
    if kind not in _NUMBERS and ("min" in field or "max" in field):
        return "/min" if "min" in field else "/max", f"a {kind} has no bounds"
    if "min" in field and "max" in field and field["min"] > field["max"]:
        return "/min", "is greater than max"
    if "default" in field and not _is_answer(field, field["default"]):
        return "/default", f"is no answer to this {kind}"
    return None


def _is_answer(field: Document, value: Any) -> bool:
    match field["type"]:
        case "boolean":
            return isinstance(value, bool)
        case "number" | "integer":
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            is_whole = field["type"] == "number" or (is_number and is_integer(value))
            return is_number and is_whole and field.get("min", value) <= value <= field.get("max", value)
        case "select":
            return value in _options(field)
        case "multiselect":
            chosen = cast("list[Any]", value) if isinstance(value, list) else [None]
            return all(each in _options(field) for each in chosen)
        case "date":
            return is_date(value)
        case "datetime":
            return is_datetime(value)
        case _:
            return isinstance(value, str)


def _options(field: Document) -> list[Any]:
    return [each["value"] if isinstance(each, dict) else each for each in field["options"]]


def card_fault(card: Document) -> str | None:
    """Fields have different labels; addresses are such that a click can open safely."""
    fields: list[Document] = card.get("fields", [])
    for index in repeated(each["label"] for each in fields):
        return fault(f"/fields/{index}/label", "is there twice")
    if "image" in card and not _is_image(card["image"]):
        return fault("/image", "is neither an https address nor an inline image")
    for index, action in enumerate(card.get("actions", [])):
        if "url" in action and not is_safe_url(action["url"]):
            return fault(f"/actions/{index}/url", "is not an http, https or mailto address")
    return None


def is_safe_url(text: str) -> bool:
    """Whether an address is one that a client may open: no script, no file, no data."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return text.isprintable() and parts.scheme in _SCHEMES and bool(parts.netloc or parts.scheme == "mailto")


def _is_image(text: str) -> bool:
    inline = ("data:image/png;", "data:image/jpeg;", "data:image/gif;", "data:image/webp;")
    return text.startswith(inline) or (text.startswith("https://") and is_safe_url(text))


def dashboard_fault(dashboard: Document, check: CheckDocument) -> str | None:
    """Panels have different ids, hold what their kind says, and lie on the grid without covering each other."""
    panels: list[Document] = dashboard["panels"]
    for index in repeated(each["id"] for each in panels):
        return fault(f"/panels/{index}/id", "is there twice")
    for index, panel in enumerate(panels):
        wrong = check(panel["kind"], panel["artifact"])
        if wrong is not None:
            return f"/panels/{index}/artifact{wrong}"
        if "x" in panel and panel["x"] + panel["w"] > GRID:
            return fault(f"/panels/{index}", f"ends in column {panel['x'] + panel['w']} of {GRID}")
    return _overlap_fault(panels)


def _overlap_fault(panels: Sequence[Document]) -> str | None:
    placed = [(index, panel) for index, panel in enumerate(panels) if "x" in panel]
    for (_, one), (index, other) in combinations(placed, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        if not beside and not above:
            return fault(f"/panels/{index}", f"covers panel {one['id']!r:.100}")
    return None
