"""What a row keeps of a payload: redacted, capped, with size and digest of the whole (SPEC A5). Pure.

Redaction has four parts: the JSON pointers that the registry declares for a tool (RFC 6901; the token `*` stands for
every member or element), secrets by name or format, our own credentials for the server, and whatever text repeats a
value that a pointer took out: servers send structured content a second time as text.

All of it comes before the cut, and a text is cut only where the cut cannot part a secret.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final, cast

import msgspec

from proxy.audit.detector import MASK, mask_secrets, may_hold_secret, names_secret, value_is_secret
from proxy.audit.echoes import Echoes, without
from proxy.audit.hidden import NOTHING, Hidden
from proxy.audit.record import Payload

MOST_DEPTH: Final = 128
SMALLEST_CAP: Final = 64
_BEHIND_CAP: Final = 4096  # so that a secret across the cap is seen whole
_SHORT: Final = 128
_INT_BITS: Final = 512
_encode = msgspec.json.Encoder().encode


def snapshot(value: object, whole: bytes, pointers: Sequence[str], cap: int, hidden: Hidden = NOTHING) -> Payload:
    """Return the snapshot of `value`, which was parsed from (a part of) `whole`.

    The text is valid JSON of at most `cap` bytes; None when there is no value, or the cap is too small for any. Cut
    short it is `{"truncated":"…"}`. `value` is not changed. Pointers are relative to `value`.
    """
    text = None if value is None or cap < SMALLEST_CAP else _shown(value, pointers, cap, hidden)
    return Payload(text, len(whole), sha256(whole).digest())


def redact(
    value: object, pointers: Sequence[str] = (), budget: int = sys.maxsize, hidden: Hidden = NOTHING
) -> tuple[object, bool]:
    """Return a copy of JSON data without what the pointers name and without secrets, and whether it is complete.

    Work is bounded: text behind the first `budget` characters is left out, and nothing is shown of a value of which the
    pointers take very many texts.
    """
    value, echoes = without(value, pointers)
    if echoes.are_too_many:
        return MASK, True
    masking = _Masking(echoes, hidden, budget)
    return masking.copy(value, 0), masking.left > 0


def told(text: str, most: int, hidden: Hidden = NOTHING) -> str:
    """Return a free text as a row tells it: without secrets, and of at most `most` characters."""
    if len(text) <= _SHORT and len(text) <= most:
        is_plain = _is_plain(text) and (hidden is NOTHING or not hidden.may_be_in(text))
        return text if is_plain else _mask(text, hidden)[:most]
    shown = _cut(text, most, lambda part: _mask(part, hidden))
    return shown if len(shown) <= most and len(text) <= most else f"{shown[: most - 1]}…"


def told_all(records: Sequence[object], most: int, hidden: Hidden = NOTHING) -> list[Any]:
    """Return records of JSON data as a row tells them; what is behind the first `most` characters is left out."""
    shown, is_complete = redact(records, (), most, hidden)
    return [*cast("list[Any]", shown), *([] if is_complete else [{"truncated": True}])]


def _shown(value: object, pointers: Sequence[str], cap: int, hidden: Hidden) -> str:
    raw = _json(value)
    text = raw.decode()
    if not pointers and not may_hold_secret(text) and (hidden is NOTHING or not hidden.may_be_in(text)):
        return text if len(raw) <= cap else _truncated(text, cap)
    clean, is_complete = redact(value, pointers, cap + _BEHIND_CAP, hidden)
    raw = _json(clean)
    return raw.decode() if is_complete and len(raw) <= cap else _truncated(raw.decode(), cap)


def _json(value: object) -> bytes:
    try:
        return _encode(value)
    except (UnicodeEncodeError, OverflowError, TypeError, ValueError):  # lone surrogates, integers of any size
        return json.dumps(value, separators=(",", ":"), default=str).encode()


def _mask(text: str, hidden: Hidden) -> str:
    return mask_secrets(hidden.mask(text))


@lru_cache(4096)
def _is_plain(text: str) -> bool:
    """Remember the answer for names and sentences, which come again and again."""
    return not may_hold_secret(text)


def _cut(text: str, most: int, mask: Callable[[str], str]) -> str:
    """Mask the first `most` characters of a text; a secret that goes beyond them shows nothing of itself.

    What stays the same when more of the text is known does not depend on what is cut off.
    """
    if len(text) <= most:
        return mask(text)
    return _common_start(mask(text[:most]), mask(text[: most + _BEHIND_CAP]))


def _common_start(one: str, other: str) -> str:
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return one[:low]


def _truncated(text: str, cap: int) -> str:
    keep = cap - 20
    while True:
        made = _encode({"truncated": text[:keep]})
        if len(made) <= cap:
            return made.decode()
        keep = min(keep - 1, keep * cap // len(made))


def _is_bare(value: object) -> bool:
    """Whether a member can be a secret as it is: a text, a number, or a list of these, as headers are often written."""
    if isinstance(value, (list, tuple)):
        items = cast("Sequence[object]", value)
        return len(items) > 0 and all(isinstance(item, (str, int)) for item in items)
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= _INT_BITS


class _Masking:
    """One walk over JSON data, until `left` characters are used up."""

    def __init__(self, echoes: Echoes, hidden: Hidden, budget: int) -> None:
        self.left = budget
        self._echoes = echoes
        self._hidden = hidden

    def copy(self, value: Any, depth: int) -> object:
        if isinstance(value, str):
            return self._text(value)
        self.left -= 1
        if depth > MOST_DEPTH:
            return MASK
        if isinstance(value, Mapping):
            return self._members(cast("Mapping[str, object]", value), depth + 1)
        if isinstance(value, (list, tuple)):
            return self._elements(cast("Sequence[object]", value), depth + 1)
        return MASK if _is_number(value) and self._hidden.mask(str(value)) != str(value) else value

    def _members(self, members: Mapping[str, object], depth: int) -> dict[str, object]:
        made: dict[str, object] = {}
        is_pair = value_is_secret(members)
        for key, item in members.items():
            if self.left <= 0:
                break
            is_secret = _is_bare(item) and (names_secret(key) or (is_pair and key == "value"))
            name = self._text(key)  # before its value, which may use up what is left
            made[name] = MASK if is_secret else self.copy(item, depth)
        return made

    def _elements(self, elements: Sequence[object], depth: int) -> list[object]:
        made: list[object] = []
        for item in elements:
            if self.left <= 0:
                break
            made.append(self.copy(item, depth))
        return made

    def _text(self, text: str) -> str:
        shown = _cut(text, max(self.left, 0), self._mask)
        self.left -= len(text) + 1
        return shown

    def _mask(self, text: str) -> str:
        return _mask(self._echoes.mask(text), self._hidden)
