"""Facts about a valid JSON text that its decoded value no longer shows. Pure, and linear in a few passes of C."""

from array import array
from itertools import accumulate

_KEPT = b'[]{}"'
_DROPPED = bytes(byte for byte in range(256) if byte not in _KEPT)
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""One level in, one level out: 255 is -1 as a signed byte."""


def count_quotes(text: bytes) -> int:
    """Return the number of quotes that open or close a string.

    A text and what its decoded value is encoded to have the same number, unless a member was written twice: the
    decoder kept one of its keys.
    """
    return _unescaped(text).count(b'"')


def keeps_all(encoded: bytes, text: bytes) -> bool:
    """Tell whether what was decoded from a text, and encoded again, still has every member of it.

    Where no quote is written as a number both write each of them as one character, and nothing has to be taken apart.
    """
    if b"\\u0022" not in text:
        return encoded.count(b'"') == text.count(b'"')
    return count_quotes(encoded) == count_quotes(text)


def is_deeper_than(text: bytes, limit: int) -> bool:
    """Tell whether arrays and objects nest more than `limit` deep."""
    if text.count(b"[") + text.count(b"{") <= limit:
        return False
    marks = _unescaped(text).translate(None, _DROPPED).replace(b'""', b"")
    brackets = b"".join(marks.split(b'"')[::2])
    return max(accumulate(array("b", brackets.translate(_STEPS))), default=0) > limit


def _unescaped(text: bytes) -> bytes:
    """Return the text without its escaped quotes."""
    return text.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in text else text
