"""Heads of answers that come again byte for byte, as a server's do that answers the same kind of question. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from proxy.upstream.head import Framing
from proxy.wire.fields import Fields

MOST_HEADS = 256
MOST_BYTES = 4 * 1024
"""The longest head that is kept."""
_END_OF_HEAD = b"\r\n\r\n"
_NEVER = frozenset({b"transfer-encoding", b"upgrade"})


@dataclass(frozen=True, slots=True)
class KnownHead:
    """A head of `size` bytes that the parser has judged on a whole answer, with a body of `length` bytes behind it."""

    size: int
    length: int
    status: int
    headers: Fields
    framing: Framing


class KnownHeads:
    """At most `MOST_HEADS`; all are forgotten where one more comes, which is rarely seen and costs one parsing each."""

    __slots__ = ("_heads",)

    def __init__(self) -> None:
        self._heads: dict[bytes, KnownHead] = {}

    def __len__(self) -> int:
        return len(self._heads)

    def find(self, data: bytes) -> KnownHead | None:
        """Return what is known of the head with which an answer starts; None where it has no end yet."""
        return self._heads.get(data[: data.find(_END_OF_HEAD) + 4])

    def learn(
        self, start: bytes, size: int, status: int, headers: Sequence[tuple[bytes, bytes]], framing: Framing
    ) -> None:
        """Keep the head in `start`, which begins an answer of `size` bytes that has left its connection usable.

        Only where the answer is a success, its one length says exactly where it ended, and nothing else frames it.
        """
        head = start[: start.find(_END_OF_HEAD) + 4]
        lengths = [value for name, value in headers if name == b"content-length"]
        if len(lengths) != 1 or not lengths[0].isdigit() or len(head) + int(lengths[0]) != size:
            return
        is_plain = framing.has_body and framing.max_body_bytes is not None and not framing.until_close
        if not is_plain or not 200 <= status <= 299 or any(name in _NEVER for name, _ in headers):
            return
        if len(head) <= MOST_BYTES:
            if len(self._heads) >= MOST_HEADS:
                self._heads.clear()
            self._heads[head] = KnownHead(len(head), int(lengths[0]), status, Fields.of(headers), framing)
