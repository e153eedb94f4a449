"""Rules of tables, lists and charts: what a schema cannot say about numbers that must agree. Pure."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from registry.artifacts.faults import fault, repeated

Document = Mapping[str, Any]


def table_fault(table: Document) -> str | None:
    """Columns have different names, each row has a cell for each of them, cells are of their column's type."""
    columns: list[Document] = [{"name": each} if isinstance(each, str) else each for each in table["columns"]]
    names = [column["name"] for column in columns]
    for index in repeated(names):
        return fault(f"/columns/{index}", f"column {names[index]!r:.100} is there twice")
    checks = [_CELLS.get(column.get("type", "any"), _is_anything) for column in columns]
    for index, row in enumerate(table["rows"]):
        wrong = _row_fault(row, names, checks, columns)
        if wrong is not None:
            return fault(f"/rows/{index}{wrong[0]}", wrong[1])
    return _total_fault(table, len(table["rows"]))


def _row_fault(
    row: list[Any] | dict[str, Any], names: Sequence[str], checks: Sequence["Check"], columns: Sequence[Document]
) -> tuple[str, str] | None:
    if isinstance(row, dict):
        if unknown := [key for key in row if key not in names]:
            return "", f"has a cell {unknown[0]!r:.100} for which there is no column"
        if missing := [name for name in names if name not in row]:
            return "", f"has no cell for column {missing[0]!r:.100}"
        cells = [(f"/{name}", row[name]) for name in names]
    elif len(row) != len(names):
        return "", f"has {len(row)} cells, there are {len(names)} columns"
    else:
        cells = [(f"/{index}", cell) for index, cell in enumerate(row)]
    for (pointer, cell), check, column in zip(cells, checks, columns, strict=True):
        if cell is not None and not check(cell):
            return pointer, f"is no {column['type']}"
    return None


def list_fault(listing: Document) -> str | None:
    """Items with an id have different ones, and the total counts at least what is shown."""
    items: list[Any] = listing["items"]
    ids: list[tuple[int, Any]] = [(index, each["id"]) for index, each in enumerate(items) if _has_id(each)]
    for place in repeated(f"{each!r}" for _, each in ids):
        return fault(f"/items/{ids[place][0]}/id", "is there twice")
    return _total_fault(listing, len(listing["items"]))


def _has_id(item: Any) -> bool:
    return isinstance(item, dict) and "id" in item


def chart_fault(chart: Document) -> str | None:
    """Series have different names and a value for each label; a pie has one series, a scatter has points."""
    series: list[Document] = chart["series"]
    for index in repeated(each["name"] for each in series):
        return fault(f"/series/{index}/name", "is there twice")
    if chart["chart"] == "scatter":
        return _scatter_fault(chart, series)
    if "labels" not in chart:
        return fault("/labels", f"is missing; a {chart['chart']} chart needs it")
    for index, each in enumerate(series):
        if len(each["data"]) != len(chart["labels"]):
            return fault(
                f"/series/{index}/data", f"has {len(each['data'])} values, there are {len(chart['labels'])} labels"
            )
        if any(isinstance(value, list) for value in each["data"]):
            return fault(f"/series/{index}/data", f"has points; a {chart['chart']} chart has numbers")
    return _pie_fault(series) if chart["chart"] == "pie" else None


def _scatter_fault(chart: Document, series: Sequence[Document]) -> str | None:
    if "labels" in chart:
        return fault("/labels", "a scatter chart has points and no labels")
    for index, each in enumerate(series):
        if not all(isinstance(value, list) for value in each["data"]):
            return fault(f"/series/{index}/data", "a scatter chart has points [x, y]")
    return None


def _pie_fault(series: Sequence[Document]) -> str | None:
    if len(series) != 1:
        return fault("/series", f"a pie has one series, not {len(series)}")
    for index, value in enumerate(series[0]["data"]):
        if value is None or value < 0:
            return fault(f"/series/0/data/{index}", "a slice of a pie is not negative")
    return None


def _total_fault(document: Document, shown: int) -> str | None:
    total = document.get("total")
    if total is not None and total < shown:
        return fault("/total", f"is {total}, but {shown} are shown")
    return None


Check = Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_integer(value: Any) -> bool:
    """Whether a value is a whole number, 2.0 included."""
    return _is_number(value) and (isinstance(value, int) or value.is_integer())


def is_date(value: Any) -> bool:
    """Whether a value is an ISO 8601 date."""
    return _is_iso(value, date.fromisoformat)


def is_datetime(value: Any) -> bool:
    """Whether a value is an RFC 3339 time, with its offset."""
    return _is_iso(value, datetime.fromisoformat) and "T" in value.upper() and _has_offset(value)


def _has_offset(value: str) -> bool:
    return datetime.fromisoformat(value).tzinfo is not None


def _is_iso(value: Any, read: Callable[[str], object]) -> bool:
    try:
        return isinstance(value, str) and bool(read(value))
    except ValueError:
        return False


def _is_anything(_value: Any) -> bool:
    return True


_CELLS: Mapping[str, Check] = {
    "string": lambda value: isinstance(value, str),
    "number": _is_number,
    "integer": is_integer,
    "boolean": lambda value: isinstance(value, bool),
    "date": is_date,
    "datetime": is_datetime,
}
