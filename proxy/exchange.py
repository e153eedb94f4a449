"""One HTTP request and its single answer, as the pipeline sees it; `proxy/edge` makes them from bytes."""

from collections.abc import Callable, Sequence
from typing import Protocol

Header = tuple[bytes, bytes]


class BodyTooLargeError(Exception):
    """The client sent, or announced, more than the server takes."""


class ClientGoneError(Exception):
    """The client closed the connection before its request was whole."""


class BrokenRequestError(Exception):
    """What the client sent stopped being HTTP in the middle of its request; the message says how."""


class Exchange(Protocol):
    """A request, and the only way to answer it. Header names are lower-case; `path` is decoded and without query."""

    method: str
    path: str
    query: bytes
    remote: str
    scheme: str
    has_begun: bool
    """Whether the first byte of the answer has left."""

    @property
    def headers(self) -> Sequence[Header]:
        """The header lines in their order."""
        ...

    async def read_body(self, limit: int) -> bytes:
        """Return the whole body; raise `BodyTooLargeError`, `BrokenRequestError` or `ClientGoneError`."""
        ...

    def add_headers(self, headers: Sequence[Header]) -> None:
        """Send these with whatever is answered."""
        ...

    async def answer(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        """Send a complete answer."""
        ...

    async def open(self, status: int, headers: Sequence[Header]) -> None:
        """Start a streamed answer."""
        ...

    async def write(self, chunk: bytes) -> None:
        """Send a part of a streamed answer; waits while the client is slow."""
        ...

    async def close(self) -> None:
        """End a streamed answer."""
        ...

    def on_gone(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` once if the client leaves; the returned function stops watching."""
        ...
