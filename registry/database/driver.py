"""The part of asyncpg that Postern uses, with types; asyncpg itself ships none."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol


class Record(Protocol):
    """One row, by column name or position."""

    def __getitem__(self, key: str | int, /) -> Any: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...
    def get(self, key: str, default: Any = None, /) -> Any: ...
    def keys(self) -> Iterator[str]: ...
    def items(self) -> Iterator[tuple[str, Any]]: ...


class PreparedStatement(Protocol):
    """A statement that is planned once."""

    async def fetch(self, *args: Any, timeout: float | None = None) -> list[Record]: ...  # noqa: ASYNC109  asyncpg's name
    async def fetchrow(self, *args: Any, timeout: float | None = None) -> Record | None: ...  # noqa: ASYNC109
    async def fetchval(self, *args: Any, timeout: float | None = None) -> Any: ...  # noqa: ASYNC109
    async def executemany(self, args: Iterable[Sequence[Any]], *, timeout: float | None = None) -> None: ...  # noqa: ASYNC109


class Queryable(Protocol):
    """What a connection and a pool have in common."""

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str: ...  # noqa: ASYNC109
    async def executemany(
        self,
        command: str,
        args: Iterable[Sequence[Any]],
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> None: ...
    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Record]: ...  # noqa: ASYNC109
    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> Record | None: ...  # noqa: ASYNC109
    async def fetchval(self, query: str, *args: Any, timeout: float | None = None) -> Any: ...  # noqa: ASYNC109
    def terminate(self) -> None: ...


Listener = Callable[[Any, int, str, str], Any]
"""Called with connection, backend pid, channel, payload."""


class Connection(Queryable, Protocol):
    """One connection."""

    async def close(self, *, timeout: float | None = None) -> None: ...  # noqa: ASYNC109
    def transaction(
        self, *, isolation: str | None = None, readonly: bool = False, deferrable: bool = False
    ) -> AbstractAsyncContextManager[Any]: ...
    async def prepare(self, query: str, *, timeout: float | None = None) -> PreparedStatement: ...  # noqa: ASYNC109
    def cursor(self, query: str, *args: Any, prefetch: int | None = None) -> Any: ...
    async def add_listener(self, channel: str, callback: Listener) -> None: ...
    async def remove_listener(self, channel: str, callback: Listener) -> None: ...
    def add_termination_listener(self, callback: Callable[[Any], Any]) -> None: ...
    def is_closed(self) -> bool: ...
    def is_in_transaction(self) -> bool: ...
    def get_server_pid(self) -> int: ...
    def get_server_version(self) -> Any: ...


class Acquired(AbstractAsyncContextManager[Connection], Awaitable[Connection], Protocol):
    """A connection on loan: `async with`, or `await` and `release`."""


class Pool(Queryable, Protocol):
    """Connections that are shared."""

    async def close(self) -> None: ...
    def acquire(self, *, timeout: float | None = None) -> Acquired: ...
    async def release(self, connection: Connection, *, timeout: float | None = None) -> None: ...  # noqa: ASYNC109
    async def expire_connections(self) -> None: ...
    def get_size(self) -> int: ...
    def get_idle_size(self) -> int: ...
    def get_max_size(self) -> int: ...
    def is_closing(self) -> bool: ...
