"""Header lines with an index by name, so that the dozen questions about them cost one pass. Pure."""

from collections.abc import Mapping, Sequence

Header = tuple[bytes, bytes]
Index = Mapping[bytes, Sequence[bytes]]


class Fields(tuple[Header, ...]):  # noqa: SLOT001 -- a tuple with slots cannot hold its index
    """Header lines in their order, names in lower case; `by_name` has the values of each name, in their order."""

    by_name: Index

    @classmethod
    def of(cls, lines: Sequence[Header]) -> "Fields":
        """Return the lines with their index; lines that have one already as they are."""
        if isinstance(lines, Fields):
            return lines
        made = cls(lines)
        made.by_name = _index(lines)
        return made


def index_of(lines: Sequence[Header]) -> Index:
    """Return the values of each name."""
    return lines.by_name if isinstance(lines, Fields) else _index(lines)


def _index(lines: Sequence[Header]) -> Index:
    found: dict[bytes, tuple[bytes, ...]] = {}
    for name, value in lines:
        found[name] = (*found[name], value) if name in found else (value,)
    return found
