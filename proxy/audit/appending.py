"""How a connection commits a batch: a small one as one parameter of one statement, a large one by COPY.

The statement needs one round trip instead of two and half the processor time; a COPY costs less for each entry.
"""

import logging
from collections.abc import Sequence
from typing import Any, Final, cast

import asyncpg

from proxy.audit.chain import STORED_COLUMNS, Link
from proxy.audit.tuples import batched, copied
from registry.database.driver import Connection, PreparedStatement
from registry.database.queries import load

MOST_ENTRIES: Final = 16
MOST_BYTES: Final = 1024 * 1024  # PostgreSQL holds the whole parameter several times
_SQL = load("proxy.audit", "appending.sql")
# What is said of a statement whose types or plan do not fit the database any more; nothing of the batch is stored.
_OUTDATED: Final = frozenset({"0A", "26", "42", "XX"})

_log = logging.getLogger("postern.audit")


class Appending:
    """Appends to one connection. Make it with `Appending.on`; raises what asyncpg raises."""

    def __init__(self, connection: Connection, statement: PreparedStatement | None, record_type: int) -> None:
        self._connection = cast("Any", connection)
        self._statement = statement
        self._record_type = record_type

    @classmethod
    async def on(cls, connection: Connection) -> "Appending":
        """Prepare the statement, if the database has its types."""
        types = await connection.fetchrow(_SQL["types"])
        if types is None:
            return cls(connection, None, 0)
        # The parameter is passed as the bytes that it is.
        await cast("Any", connection).set_builtin_type_codec(
            types["name"], schema=types["schema"], codec_name="bytea", format="binary"
        )
        return cls(connection, await connection.prepare(_SQL["append"]), types["record_type"])

    async def append(self, links: Sequence[Link], timeout_s: float) -> None:
        """Commit all of them or none."""
        if self._statement is not None and len(links) <= MOST_ENTRIES and _bytes(links) <= MOST_BYTES:
            try:
                await self._statement.fetch(batched(links, self._record_type), timeout=timeout_s)
            except asyncpg.PostgresError as error:
                if not self._is_outdated(error):
                    raise
                _log.warning("the audit statement is outdated, this connection goes on by COPY: %s", error)
                self._statement = None
            else:
                return
        await self._connection.copy_to_table(
            "audit_entries", source=copied(links), columns=STORED_COLUMNS, format="binary", timeout=timeout_s
        )

    def _is_outdated(self, error: asyncpg.PostgresError) -> bool:
        return str(cast("Any", error).sqlstate)[:2] in _OUTDATED and not self._connection.is_closed()


def _bytes(links: Sequence[Link]) -> int:
    return sum(len(link.canonical) for link in links)
