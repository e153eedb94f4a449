"""Values that clients mirror from the body into `Mcp-*` headers, and how they are spelled there. Pure."""

import base64
import binascii

_OPEN, _CLOSE = b"=?base64?", b"?="


def decode_value(raw: bytes) -> str | None:
    """Return the text of a header value, from the `=?base64?…?=` form where it has it.

    None for what cannot be compared safely: bytes outside printable ASCII, bad or non-canonical base64, bad UTF-8.
    """
    value = raw.strip(b" \t")
    if value.startswith(_OPEN) and value.endswith(_CLOSE) and len(value) >= len(_OPEN) + len(_CLOSE):
        return _decode_sentinel(value[len(_OPEN) : -len(_CLOSE)])
    text = value.decode("latin-1")
    return text if text.isascii() and text.isprintable() else None


def encode_value(text: str) -> bytes:
    """Spell a text so that `decode_value` returns it: as it is where that is safe, else as base64 of its UTF-8."""
    is_safe = text.isascii() and text.isprintable() and text == text.strip()
    if is_safe and not (text.startswith("=?base64?") and text.endswith("?=")):
        return text.encode("ascii")
    return _OPEN + base64.b64encode(text.encode()) + _CLOSE


def _decode_sentinel(payload: bytes) -> str | None:
    try:
        decoded = base64.b64decode(payload, validate=True)
        text = decoded.decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    return text if base64.b64encode(decoded) == payload else None
