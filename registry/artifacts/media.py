"""Rules of images, audio and video: that the bytes are what the media type says. Pure."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from registry.artifacts.faults import fault

_HEAD_CHARS = 64
_RIFF = b"RIFF"
_SIGNATURES: Mapping[str, tuple[bytes, ...]] = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/jpg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/bmp": (b"BM",),
    "image/tiff": (b"II*\0", b"MM\0*"),
    "audio/mpeg": (b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xfa"),
    "audio/ogg": (b"OggS",),
    "audio/flac": (b"fLaC",),
    "video/webm": (b"\x1a\x45\xdf\xa3",),
    "video/x-matroska": (b"\x1a\x45\xdf\xa3",),
    "video/ogg": (b"OggS",),
}
_IN_RIFF: Mapping[str, bytes] = {
    "image/webp": b"WEBP",
    "audio/wav": b"WAVE",
    "audio/x-wav": b"WAVE",
    "audio/wave": b"WAVE",
    "video/x-msvideo": b"AVI ",
}
_IN_BOXES = frozenset({"video/mp4", "audio/mp4", "video/quicktime", "image/avif", "image/heic"})


def media_fault(medium: Mapping[str, Any]) -> str | None:
    """Inline data are base64 and begin as their media type begins; an address is http, https or a resource of MCP."""
    if "uri" in medium:
        scheme = str(medium["uri"]).partition(":")[0].lower()
        if scheme in {"javascript", "file", "vbscript"} or not medium["uri"].isprintable():
            return fault("/uri", "is not an address that a client may open")
        return None
    data: str = medium["data"]
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return fault("/data", "is not base64")
    mime_type = str(medium["mimeType"]).partition(";")[0].strip().lower()
    if not _begins_as(mime_type, base64.b64decode(data[:_HEAD_CHARS])):
        return fault("/data", f"does not begin as {mime_type} does")
    return None


def _begins_as(mime_type: str, head: bytes) -> bool:
    """Whether the first bytes fit; types that are not listed may begin as they like."""
    if mime_type in _IN_RIFF:
        return head.startswith(_RIFF) and head[8:12] == _IN_RIFF[mime_type]
    if mime_type in _IN_BOXES:
        return head[4:8] == b"ftyp"
    signatures = _SIGNATURES.get(mime_type)
    return signatures is None or head.startswith(signatures)
