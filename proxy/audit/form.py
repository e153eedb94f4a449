"""The two forms of fields: as the chain hashes them, and as a record of PostgreSQL has them, after their types. Pure.

The types are PostgreSQL's own, which have the same number in every database: 4 bytes.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Final

import msgspec

_oid = Struct(">I").pack

BYTEA: Final = _oid(17)
BIGINT: Final = _oid(20)
SMALLINT: Final = _oid(21)
TEXT: Final = _oid(25)
TEXTS: Final = _oid(1009)
TIME: Final = _oid(1184)
UUID_: Final = _oid(2950)


class Form(msgspec.Struct, frozen=True, gc=False):
    """The same fields twice: in the canonical form, and each after its type; the latter in pieces, yet to be joined."""

    plain: bytes
    typed: tuple[bytes, ...]


def typed(types: Sequence[bytes], fields: Sequence[bytes]) -> Form:
    """Return fields in both forms."""
    pairs = zip(types, fields, strict=True)
    return Form(b"".join(fields), (b"".join(part for pair in pairs for part in pair),))
