"""Facts about a JSON text that its decoded value no longer shows: members written twice, and depth. Pure.

Both work on the skeleton of a valid JSON text: its brackets, commas and colons without strings, so that the whole
work is done by a handful of passes in C.
"""

_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_ALL_SQUARE = bytes.maketrans(b"{}", b"[]")


def skeleton(text: bytes) -> bytes:
    """Return a valid JSON text without its strings."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(text.split(b'"')[::2])


def count_members(bones: bytes) -> int:
    """Return how many members all the objects of the text have, those written twice included."""
    return bones.count(b":")


def is_deeper_than(bones: bytes, limit: int) -> bool:
    """Tell whether arrays and objects nest more than `limit` deep; each pass takes the innermost ones away."""
    brackets = bones.translate(_ALL_SQUARE, _NOT_BRACKETS)
    for _ in range(limit):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)
