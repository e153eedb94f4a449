r"""Credentials of our own that no row may show, however a server repeats them. Pure.

A server that echoes a credential puts it into JSON, often into JSON text inside JSON, and every encoder escapes in its
own way (`\/`, `\u002b`, `%2B`). None escapes letters and digits: their longest run is what is looked for first, so
that a text without it costs one search.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from typing import Final

from proxy.audit.detector import MASK

SHORTEST: Final = 4
_RUN: Final = re.compile(r"[A-Za-z0-9]+")


class Hidden:
    """What is to be hidden; a value that has fewer than SHORTEST characters is not."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        parts = {part for value in values for part in _parts(value) if len(part) >= SHORTEST}
        known = sorted(parts, key=len, reverse=True)
        self._anchors = tuple({max(_RUN.findall(value), key=len, default="") for value in known})
        self._pattern = re.compile("|".join(map(_pattern, known))) if known else None

    def __repr__(self) -> str:
        return f"Hidden({len(self._anchors)})"

    def may_be_in(self, text: str) -> bool:
        """Say whether a text, JSON or not, may show one; False is certain, True is a suspicion."""
        for anchor in self._anchors:  # noqa: SIM110  a generator costs more than what it does here
            if anchor in text:
                return True
        return False

    def mask(self, text: str) -> str:
        """Return the text with each of them replaced, also where it is escaped for JSON inside JSON."""
        if self._pattern is None or not self.may_be_in(text):
            return text
        return self._pattern.sub(MASK, text)


NOTHING: Final = Hidden()


def _parts(value: str) -> Iterator[str]:
    """Yield a header's value, the credential behind its scheme, and what a Basic credential holds."""
    yield value
    scheme, _, credential = value.partition(" ")
    if not credential:
        return
    yield credential.strip()
    if scheme.lower() == "basic":
        try:
            pair = base64.b64decode(credential.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return
        yield pair
        yield pair.partition(":")[2]


def _pattern(value: str) -> str:
    return "".join(char if char.isascii() and char.isalnum() else _any_form(char) for char in value)


def _any_form(char: str) -> str:
    r"""Match a character as it is, behind backslashes, as `\u002b`, or percent-encoded."""
    percent = "".join(f"%{byte:02x}" for byte in char.encode(errors="surrogatepass"))
    return rf"(?:\\{{0,16}}{re.escape(char)}|\\{{1,16}}u(?i:{ord(char):04x})|(?i:{percent}))"
