"""How a fault of a document is told: where, as a JSON pointer, and what."""

from collections.abc import Hashable, Iterable, Iterator


def fault(pointer: str, message: str) -> str:
    """Return `/rows/3: has 4 cells, there are 3 columns`."""
    return f"{pointer or '/'}: {message}"


def repeated(values: Iterable[Hashable]) -> Iterator[int]:
    """Yield the index of each value that was there before."""
    seen: set[Hashable] = set()
    for index, value in enumerate(values):
        if value in seen:
            yield index
        seen.add(value)
