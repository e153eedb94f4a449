"""Heads that come again byte for byte, as those of clients do that keep their connections."""

from msgspec import Struct

from proxy.edge.exchange import HttpExchange
from proxy.wire.fields import Fields

MOST_BYTES = 16 * 1024
"""The longest request whose head is kept for the next one like it."""
MOST_HEADS = 256
"""So many are kept for all connections together; each connection also has its last one."""
_END_OF_HEAD = b"\r\n\r\n"
_NOT_REPEATED = frozenset({b"transfer-encoding", b"expect", b"upgrade"})


class Seen(Struct, frozen=True, gc=False):
    """A head that the parser has judged, and what it is; with its body the request had `size` bytes."""

    head: bytes
    size: int
    method: str
    target: tuple[str, bytes]
    headers: Fields


def seen_in(data: bytes, exchange: HttpExchange) -> Seen | None:
    """Return the head in `data` if that is exactly one request, framed by its length and by nothing else.

    Empty lines, which may stand before a request, are no part of one: alone they would be the head of the one before.
    """
    if not data.startswith(b"POST "):
        return None
    lengths = exchange.headers.by_name.get(b"content-length", ())
    if exchange.method != "POST" or not exchange.keep_alive or len(lengths) != 1 or not lengths[0].isdigit():
        return None
    end = data.find(_END_OF_HEAD) + len(_END_OF_HEAD)
    if len(data) > MOST_BYTES or end + int(lengths[0]) != len(data):
        return None
    if not _NOT_REPEATED.isdisjoint(exchange.headers.by_name):
        return None
    return Seen(data[:end], len(data), exchange.method, (exchange.path, exchange.query), exchange.headers)


class SeenHeads:
    """What the connections of a listener have seen since its last tick: heads hold tokens, and are soon forgotten."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[bytes, Seen] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def find(self, data: bytes) -> Seen | None:
        """Return the head of a request that is here as a whole, if it is known."""
        if len(data) > MOST_BYTES:
            return None
        seen = self._seen.get(data[: data.find(_END_OF_HEAD) + len(_END_OF_HEAD)])
        return seen if seen is not None and seen.size == len(data) else None

    def note(self, data: bytes, exchange: HttpExchange) -> Seen | None:
        """Keep the head of this request, and return it, where it may come again."""
        seen = seen_in(data, exchange)
        if seen is not None:
            self.keep(seen)
        return seen

    def keep(self, seen: Seen) -> None:
        """Keep one more; where that is one too many, forget the others."""
        if len(self._seen) >= MOST_HEADS:
            self._seen.clear()
        self._seen[seen.head] = seen

    def forget(self) -> None:
        """Forget all."""
        self._seen.clear()
