"""One writer's chain: SHA-256 over the previous hash and the canonical form of the entry (SPEC A6). Pure."""

import hashlib
from struct import Struct
from typing import Final, Literal
from uuid import UUID

import msgspec

from proxy.audit.canonical import COLUMNS, FORMAT, Encoded, Fields, uuid_field, word

Kind = Literal["intent", "row"]

GENESIS_DOMAIN: Final = b"postern audit chain 1\n"
STORED_COLUMNS: Final = (*COLUMNS, "prev_hash", "row_hash")

_hash_length = Struct(">i").pack(32)
_seq = Struct(">iq").pack


class Head(msgspec.Struct, frozen=True, gc=False):
    """The last link: its number and hash; number 0 is the genesis."""

    seq: int
    hash: bytes


class Linked(msgspec.Struct, frozen=True, gc=False):
    """An entry in its place: the fields of `STORED_COLUMNS`, and the same in one piece."""

    fields: Fields
    joined: bytes


def genesis(writer_id: UUID) -> Head:
    """Where the chain of a writer begins."""
    return Head(0, hashlib.sha256(GENESIS_DOMAIN + writer_id.bytes).digest())


def link_hash(previous: bytes, canonical: bytes) -> bytes:
    """Return the hash of an entry."""
    return hashlib.sha256(previous + canonical).digest()


class Links:
    """Gives entries their place in a writer's chain."""

    def __init__(self, writer_id: UUID) -> None:
        self._heads: dict[Kind, tuple[Fields, bytes]] = {kind: _head(kind, writer_id) for kind in ("intent", "row")}

    def append(self, into: list[Linked], after: Head, kind: Kind, entry: Encoded) -> Head:
        """Add an entry to `into`; return the new head."""
        fields, head = self._heads[kind]
        number = _seq(8, after.seq + 1)
        canonical = head + number + entry.body
        made = hashlib.sha256(after.hash + canonical).digest()
        previous_field, hash_field = _hash_length + after.hash, _hash_length + made
        into.append(
            Linked((*fields, number, *entry.fields, previous_field, hash_field), canonical + previous_field + hash_field)
        )
        return Head(after.seq + 1, made)


def _head(kind: Kind, writer_id: UUID) -> tuple[Fields, bytes]:
    fields = (Struct(">ih").pack(2, FORMAT), word(kind), uuid_field(writer_id))
    return fields, b"".join(fields)
