"""`export`: rows as JSON lines, CSV or Parquet, page by page."""

import csv
import io
import json
import os
from collections.abc import AsyncIterable, Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, Protocol

from proxy.audit.render import json_line, plain
from registry.database.driver import Record

Format = Literal["jsonl", "csv", "parquet"]
ROW_GROUP: Final = 10_000


class MissingExtraError(Exception):
    """The format needs a package that is not installed."""


class Sheet(Protocol):
    """Takes pages of rows; `close` completes the file."""

    def add(self, rows: Sequence[Record]) -> None: ...
    def close(self) -> None: ...


@contextmanager
def replacing(path: Path) -> Generator[BinaryIO]:
    """Lend a file that takes the place of `path` when all went well; otherwise what was there stays."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


async def export(
    pages: AsyncIterable[Sequence[Record]],
    columns: Sequence[str],
    kind: Format,
    out: BinaryIO,
    count: Callable[[int], None],
) -> int:
    """Write all pages; return the number of rows. `count` is called with it as it grows."""
    sheet, total = _SHEETS[kind](out, columns), 0
    async for page in pages:
        sheet.add(page)
        total += len(page)
        count(total)
    sheet.close()
    return total


def format_of(path: Path | None) -> Format:
    """Return the format that a file name asks for; JSON lines where it asks for none."""
    match path.suffix if path else "":
        case ".csv":
            return "csv"
        case ".parquet":
            return "parquet"
        case _:
            return "jsonl"


class JsonLines:
    """One JSON object a line."""

    def __init__(self, out: BinaryIO, _columns: Sequence[str]) -> None:
        self._out = out

    def add(self, rows: Sequence[Record]) -> None:
        self._out.writelines(json_line(row).encode() + b"\n" for row in rows)

    def close(self) -> None:
        self._out.flush()


class Csv:
    """RFC 4180 with a header. A text that a spreadsheet would run as a formula gets a leading apostrophe."""

    def __init__(self, out: BinaryIO, columns: Sequence[str]) -> None:
        self._out = out
        self._write([columns])

    def add(self, rows: Sequence[Record]) -> None:
        self._write([_cell(plain(value)) for _, value in row.items()] for row in rows)

    def _write(self, lines: Iterable[Sequence[Any]]) -> None:
        text = io.StringIO()
        csv.writer(text).writerows(lines)
        self._out.write(text.getvalue().encode())

    def close(self) -> None:
        self._out.flush()


class Parquet:
    """Apache Parquet, zstd; needs pyarrow, which is the extra `postern[parquet]`."""

    def __init__(self, out: BinaryIO, columns: Sequence[str]) -> None:
        try:
            self._arrow: Any = import_module("pyarrow")
            parquet: Any = import_module("pyarrow.parquet")
        except ImportError as error:
            raise MissingExtraError("Parquet needs pyarrow: install postern[parquet]") from error
        self._schema = self._arrow.schema([(name, self._type(name)) for name in columns])
        self._writer = parquet.ParquetWriter(out, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def add(self, rows: Sequence[Record]) -> None:
        self._rows += [{key: _typed(value) for key, value in row.items()} for row in rows]
        if len(self._rows) >= ROW_GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []

    def _type(self, name: str) -> Any:
        arrow = self._arrow
        if name in _TIMES:
            return arrow.timestamp("us", "UTC")
        if name in _NUMBERS:
            return arrow.int64()
        if name.startswith("scopes_"):
            return arrow.list_(arrow.string())
        return arrow.binary() if name.endswith(("_sha256", "_hash")) else arrow.string()


_TIMES: Final = frozenset({"started_at", "completed_at", "last_seen"})
_NUMBERS: Final = frozenset(
    {"format", "seq", "input_bytes", "output_bytes", "http_status", "duration_us", "upstream_us", "events", "repeats"}
)
_SHEETS: Final[dict[Format, Callable[[BinaryIO, Sequence[str]], Sheet]]] = {
    "jsonl": JsonLines,
    "csv": Csv,
    "parquet": Parquet,
}


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        value = json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value


def _typed(value: Any) -> Any:
    made = plain(value)
    return value if isinstance(value, (bytes, int)) or hasattr(value, "tzinfo") else made
