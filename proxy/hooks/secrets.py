"""Ships with Postern: known credential formats do not pass, in neither direction.

    hooks:
      - { name: no-keys-in,  event: PreToolUse,  python: "proxy.hooks.secrets:Secrets", settings: { action: refuse } }
      - { name: no-keys-out, event: PostToolUse, python: "proxy.hooks.secrets:Secrets", required: true }

Settings: `action` (`redact`, the default, or `refuse`), `names` (true: members called `password`, `api_key` … count,
too). The formats are those that audit rows never hold (proxy/audit/detector.py).
"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec

from proxy.audit.detector import MASK, mask_secrets, may_hold_secret, names_secret, value_is_secret
from proxy.hooks.api import Answer, HookEvent, Refuse, Replace, Rewrite

_ACTIONS = ("redact", "refuse")


class Secrets:
    """The hook; one instance per declaration."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._action = settings.get("action", "redact")
        self._names = settings.get("names", False)
        unknown = set(settings) - {"action", "names"}
        if unknown or self._action not in _ACTIONS or not isinstance(self._names, bool):
            raise ValueError("settings are `action` (redact or refuse) and `names` (true or false)")

    async def __call__(self, event: HookEvent) -> Answer:
        """Look at what is about to pass."""
        value = event.arguments if event.event == "PreToolUse" else event.result
        if value is None or not self._is_suspect(value):
            return None
        if self._action == "refuse":
            place = next(self._places(value, ""), None)
            return Refuse(f"{place} holds what looks like a credential") if place is not None else None
        masked = cast("dict[str, Any]", self._masked(value))
        return Rewrite(masked) if event.event == "PreToolUse" else Replace(masked)

    def _is_suspect(self, value: object) -> bool:
        return may_hold_secret(msgspec.json.encode(value).decode())

    def _masked(self, value: object) -> object:
        match value:
            case str():
                return mask_secrets(value)
            case dict():
                return dict(self._masked_members(cast("dict[str, object]", value)))
            case list():
                return [self._masked(each) for each in cast("list[object]", value)]
            case _:
                return value

    def _masked_members(self, members: Mapping[str, object]) -> Iterator[tuple[str, object]]:
        """Mask names, too: a table of keys by name is as good as a list of them; two that are masked stay two."""
        for number, (key, each) in enumerate(members.items()):
            shown = mask_secrets(key)
            name = key if shown == key else f"{shown} {number}"
            yield name, MASK if self._is_named(key, members) else self._masked(each)

    def _is_named(self, key: str, members: Mapping[str, object]) -> bool:
        is_named = names_secret(key) or (key == "value" and value_is_secret(members))
        return self._names and isinstance(members[key], str) and is_named

    def _places(self, value: object, pointer: str) -> Iterator[str]:
        """Yield the JSON pointers of what would be masked."""
        match value:
            case str():
                if mask_secrets(value) != value:
                    yield pointer or "/"
            case dict():
                members = cast("dict[str, object]", value)
                for key, each in members.items():
                    shown = mask_secrets(key)
                    below = f"{pointer}/{shown}"
                    yield from (below,) if shown != key or self._is_named(key, members) else self._places(each, below)
            case list():
                for index, each in enumerate(cast("list[object]", value)):
                    yield from self._places(each, f"{pointer}/{index}")
            case _:
                return
