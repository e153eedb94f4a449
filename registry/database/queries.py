"""Named statements of a .sql file: everything after `-- name: find_session` up to the next name."""

import re
from importlib.resources import files

from registry.database.errors import UnknownQueryError

_NAME = re.compile(r"--\s*name:\s*(\S+)\s*")


class Queries(dict[str, str]):
    """Statements by name; a missing name is an error that says which there are."""

    def __init__(self, source: str, statements: dict[str, str]) -> None:
        super().__init__(statements)
        self._source = source

    def __missing__(self, name: str) -> str:
        raise UnknownQueryError(f"{self._source} has no statement named {name}; it has {', '.join(sorted(self))}")


def load(package: str, name: str) -> Queries:
    """Return the statements of a file in a package, such as `load("proxy.audit", "store.sql")`."""
    source = f"{package}/{name}"
    return Queries(source, parse_queries((files(package) / name).read_text(encoding="utf-8"), source))


def parse_queries(text: str, source: str) -> dict[str, str]:
    """Return statement by name; refuse an unnamed, empty, repeated or badly named one."""
    statements: dict[str, list[str]] = {}
    current: list[str] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        named = _NAME.fullmatch(line.strip())
        if named:
            if named[1] in statements or not named[1].isidentifier():
                raise UnknownQueryError(f"{source}:{number}: a name must be an identifier and unique: {named[1]}")
            current = statements[named[1]] = []
        elif current is not None:
            current.append(line)
        elif line.strip() and not line.lstrip().startswith("--"):
            raise UnknownQueryError(f"{source}:{number}: a statement must follow `-- name: …`")
    joined = {name: "\n".join(lines).strip() for name, lines in statements.items()}
    if empty := [name for name, statement in joined.items() if not _has_code(statement)]:
        raise UnknownQueryError(f"{source}: no statement follows the name {empty[0]}")
    return joined


def _has_code(statement: str) -> bool:
    return any(line.strip() and not line.lstrip().startswith("--") for line in statement.splitlines())
