"""One writer's chain: SHA-256 over the previous hash and the canonical form of the entry (SPEC A6). Pure."""

import hashlib
from struct import Struct
from typing import Final, Literal
from uuid import UUID

import msgspec

from proxy.audit.canonical import COLUMNS, FORMAT, uuid_field, word

Kind = Literal["intent", "row"]

GENESIS_DOMAIN: Final = b"postern audit chain 1\n"
STORED_COLUMNS: Final = (*COLUMNS, "prev_hash", "row_hash")

_seq = Struct(">iq").pack


class Head(msgspec.Struct, frozen=True, gc=False):
    """The last link: its number and hash; number 0 is the genesis."""

    seq: int
    hash: bytes


class Link(msgspec.Struct, frozen=True, gc=False):
    """An entry in its place."""

    canonical: bytes
    prev_hash: bytes
    row_hash: bytes


def genesis(writer_id: UUID) -> Head:
    """Where the chain of a writer begins."""
    return Head(0, hashlib.sha256(GENESIS_DOMAIN + writer_id.bytes).digest())


def link_hash(previous: bytes, canonical: bytes) -> bytes:
    """Return the hash of an entry."""
    return hashlib.sha256(previous + canonical).digest()


class Links:
    """Gives entries their place in a writer's chain."""

    def __init__(self, writer_id: UUID) -> None:
        self._heads: dict[Kind, bytes] = {kind: _head(kind, writer_id) for kind in ("intent", "row")}

    def append(self, into: list[Link], after: Head, kind: Kind, body: bytes) -> Head:
        """Add an entry to `into`; return the new head. `body` is what `Encoder` made."""
        seq, previous = after.seq + 1, after.hash
        canonical = self._heads[kind] + _seq(8, seq) + body
        made = hashlib.sha256(previous + canonical).digest()
        into.append(Link(canonical, previous, made))
        return Head(seq, made)


def _head(kind: Kind, writer_id: UUID) -> bytes:
    return Struct(">ih").pack(2, FORMAT) + word(kind) + uuid_field(writer_id)
