"""Heads of answers that come again byte for byte, as a server's do that answers the same kind of question."""

from collections.abc import Sequence

from msgspec import Struct

from proxy.upstream.head import Framing
from proxy.wire.fields import Fields

MOST_HEADS = 256
MOST_BYTES = 4 * 1024
"""The longest head that is kept."""
_END_OF_HEAD = b"\r\n\r\n"
_NEVER = frozenset({b"transfer-encoding", b"upgrade"})


class KnownHead(Struct, frozen=True, gc=False):
    """A head of `size` bytes that the parser has judged on a whole answer, with a body of `length` bytes behind it."""

    size: int
    length: int
    status: int
    headers: Fields
    framing: Framing


class KnownHeads:
    """At most `MOST_HEADS`, those included that came once; where one more comes, all are forgotten."""

    __slots__ = ("_heads",)

    def __init__(self) -> None:
        self._heads: dict[bytes, KnownHead | None] = {}

    def __len__(self) -> int:
        return len(self._heads)

    def find(self, data: bytes) -> KnownHead | None:
        """Return what is known of the head with which an answer starts; None where it has no end yet."""
        return self._heads.get(data[: data.find(_END_OF_HEAD) + 4])

    def learn(
        self, start: bytes, size: int, status: int, headers: Sequence[tuple[bytes, bytes]], framing: Framing
    ) -> None:
        """Keep the head in `start`, which begins an answer of `size` bytes that has left its connection usable.

        Only when it comes for the second time: many servers give each answer an id or a time, and never repeat a head.
        """
        end = start.find(_END_OF_HEAD) + 4
        if not 4 <= end <= MOST_BYTES:
            return
        head = start[:end]
        if head in self._heads:
            self._heads[head] = _known(end, size, status, headers, framing)
            return
        if len(self._heads) >= MOST_HEADS:
            self._heads.clear()
        self._heads[head] = None


def _known(
    end: int, size: int, status: int, headers: Sequence[tuple[bytes, bytes]], framing: Framing
) -> KnownHead | None:
    """Return the head of a success whose one length says exactly where it ended, and which nothing else frames."""
    is_plain = framing.has_body and framing.max_body_bytes is not None and not framing.until_close
    if not is_plain or not 200 <= status <= 299 or any(name in _NEVER for name, _ in headers):
        return None
    lengths = [value for name, value in headers if name == b"content-length"]
    if len(lengths) != 1 or not lengths[0].isdigit() or end + int(lengths[0]) != size:
        return None
    return KnownHead(end, int(lengths[0]), status, Fields.of(headers), framing)
