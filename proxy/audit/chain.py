"""One writer's chain: SHA-256 over the previous hash and the canonical form of the entry (SPEC A6). Pure."""

import hashlib
from struct import Struct
from typing import Final, Literal
from uuid import UUID

import msgspec

from proxy.audit.canonical import COLUMNS, FORMAT, uuid_field, word
from proxy.audit.form import SMALLINT, TEXT, UUID_, Form, typed

Kind = Literal["intent", "row"]

GENESIS_DOMAIN: Final = b"postern audit chain 1\n"
STORED_COLUMNS: Final = (*COLUMNS, "prev_hash", "row_hash")

_seq = Struct(">iq").pack


class Head(msgspec.Struct, frozen=True, gc=False):
    """The last link: its number and hash; number 0 is the genesis."""

    seq: int
    hash: bytes


class Link(msgspec.Struct, frozen=True, gc=False):
    """An entry in its place: `canonical` is `opening`, the field `seq` and `entry`, all in their plain form."""

    opening: Form
    seq: int
    entry: Form
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
        self._openings: dict[Kind, Form] = {kind: _opening(kind, writer_id) for kind in ("intent", "row")}

    def append(self, into: list[Link], after: Head, kind: Kind, entry: Form) -> Head:
        """Add an entry to `into`; return the new head."""
        opening, seq, previous = self._openings[kind], after.seq + 1, after.hash
        canonical = opening.plain + _seq(8, seq) + entry.plain
        made = hashlib.sha256(previous + canonical).digest()
        into.append(Link(opening, seq, entry, canonical, previous, made))
        return Head(seq, made)


def _opening(kind: Kind, writer_id: UUID) -> Form:
    return typed((SMALLINT, TEXT, UUID_), (Struct(">ih").pack(2, FORMAT), word(kind), uuid_field(writer_id)))
