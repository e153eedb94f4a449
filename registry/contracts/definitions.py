"""What of a tool, prompt or resource is pinned: everything that a model, a person or a validator goes by. Pure.

Left out is what says nothing about the promise, or differs by protocol version and not by server: `execution`
(2025-11-25 only), `size` and `lastModified` of a resource, the server's own version.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast, get_args

from registry.contracts.canonical import NotCanonicalError, digest

Kind = Literal["tools", "prompts", "resources", "templates"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Definition = Mapping[str, object]

_SHOWN = ("title", "description", "icons", "_meta")
MEMBERS: Mapping[Kind, tuple[str, ...]] = {
    "tools": ("name", *_SHOWN, "annotations", "inputSchema", "outputSchema"),
    "prompts": ("name", *_SHOWN, "arguments"),
    "resources": ("uri", "name", *_SHOWN, "mimeType", "annotations"),
    "templates": ("uriTemplate", "name", *_SHOWN, "mimeType", "annotations"),
}
NAMED_BY: Mapping[Kind, str] = {"tools": "name", "prompts": "name", "resources": "uri", "templates": "uriTemplate"}
SINGULAR: Mapping[Kind, str] = {
    "tools": "tool",
    "prompts": "prompt",
    "resources": "resource",
    "templates": "resource template",
}
_VOLATILE = "lastModified"


@dataclass(frozen=True)
class Pin:
    """One definition, and the digest that stands for it."""

    definition: Definition

    @cached_property
    def digest(self) -> str:
        """The digest of the definition; raises `NotCanonicalError`."""
        return digest(self.definition)

    @cached_property
    def members(self) -> Mapping[str, object]:
        """What stands for each member, see `member_digests`."""
        return member_digests(self.definition)


def member_digests(definition: Definition) -> Mapping[str, object]:
    """Return the digest of each member; in place of one that has none something that equals nothing else."""
    found: dict[str, object] = {}
    for key, value in definition.items():
        try:
            found[key] = digest(value)
        except NotCanonicalError:
            found[key] = object()
    return found


def name_of(kind: Kind, item: object) -> str | None:
    """Return the name by which callers ask for an item of a list; None if it has none."""
    name = cast("dict[str, object]", item).get(NAMED_BY[kind]) if isinstance(item, dict) else None
    return name if isinstance(name, str) else None


def pinned(kind: Kind, item: Mapping[str, object]) -> dict[str, object]:
    """Return the part of an item that is pinned; a member that is null is absent."""
    found = {key: value for key in MEMBERS[kind] if (value := item.get(key)) is not None}
    annotations = found.get("annotations")
    if kind in {"resources", "templates"} and isinstance(annotations, dict):
        lasting = {key: value for key, value in cast("dict[str, object]", annotations).items() if key != _VOLATILE}
        found["annotations"] = lasting
        if not lasting:
            del found["annotations"]
    return found


def instructions_digest(text: str) -> str:
    """Return the digest of a server's instructions."""
    return digest({"instructions": text})
