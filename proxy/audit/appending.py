"""How a connection commits a batch: a small one as one parameter of one statement, a larger one by COPY.

The statement needs one round trip instead of two, and a third less processor time for one entry; a COPY costs less for
many.
"""

import logging
from collections.abc import Sequence
from typing import Any, Final, cast

import asyncpg

from proxy.audit.chain import STORED_COLUMNS, Link
from proxy.audit.tuples import batched, copied
from registry.database.driver import Connection, PreparedStatement
from registry.database.queries import load

MOST_ENTRIES: Final = 4
MOST_BYTES: Final = 1024 * 1024  # PostgreSQL holds the whole parameter several times
_SQL = load("proxy.audit", "appending.sql")
_OUTDATED: Final = frozenset({"0A", "26", "42", "XX"})  # types, statement or plan do not fit; nothing was stored

_log = logging.getLogger("postern.audit")


class SwallowedError(Exception):
    """PostgreSQL committed, and says that it has not stored all entries: a trigger or a rule of the owner's."""


class Appending:
    """Appends to one connection. Make it with `Appending.on`; raises what asyncpg raises, and SwallowedError."""

    def __init__(self, connection: Connection, statement: PreparedStatement | None, record_type: int) -> None:
        self._connection = cast("Any", connection)
        self._statement = statement
        self._record_type = record_type

    @classmethod
    async def on(cls, connection: Connection) -> "Appending":
        """Prepare the statement; where the database or the driver cannot have it, all goes by COPY."""
        types = await connection.fetchrow(_SQL["types"])
        if types is None:
            _log.warning("the database has no type audit_batch (run `postern migrate`), this connection uses COPY")
            return cls(connection, None, 0)
        try:
            await _pass_bytes(connection, types["name"], types["schema"])
            statement = await connection.prepare(_SQL["append"])
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if connection.is_closed():
                raise
            _log.warning("the audit statement cannot be prepared, this connection uses COPY: %s", error)
            return cls(connection, None, 0)
        return cls(connection, statement, types["record_type"])

    @property
    def is_by_copy(self) -> bool:
        """Whether every batch goes by COPY."""
        return self._statement is None

    async def append(self, links: Sequence[Link], timeout_s: float) -> None:
        """Commit all of them or none."""
        if self._statement is not None and len(links) <= MOST_ENTRIES and _bytes(links) <= MOST_BYTES:
            try:
                await self._statement.fetch(batched(links, self._record_type), timeout=timeout_s)
            except asyncpg.PostgresError as error:
                if not self._is_outdated(error):
                    raise
                _log.warning("the audit statement fits no more, this connection goes on by COPY: %s", error)
                self._statement = None
            else:
                _count(self._statement.get_statusmsg(), len(links))
                return
        said = await self._connection.copy_to_table(
            "audit_entries", source=copied(links), columns=STORED_COLUMNS, format="binary", timeout=timeout_s
        )
        _count(said, len(links))

    def _is_outdated(self, error: asyncpg.PostgresError) -> bool:
        return str(cast("Any", error).sqlstate)[:2] in _OUTDATED and not self._connection.is_closed()


def _count(said: str, entries: int) -> None:
    """Hold what PostgreSQL says that it has stored (`INSERT 0 3`, `COPY 3`) against what it was given."""
    if said.rpartition(" ")[2] != str(entries):
        raise SwallowedError(f"of {entries} entries PostgreSQL has stored others: {said}; look for a trigger or a rule")


async def _pass_bytes(connection: Connection, name: str, schema: str) -> None:
    """Let the driver take the bytes of a value of this type as they are, as it does for bytea."""
    await cast("Any", connection).set_builtin_type_codec(name, schema=schema, codec_name="bytea", format="binary")


def _bytes(links: Sequence[Link]) -> int:
    return sum(len(link.canonical) for link in links)
