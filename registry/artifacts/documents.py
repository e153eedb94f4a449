"""Where an artifact stands in a tool's result: text and media in content blocks, the rest in structured content. Pure.

Servers differ in how they say the same, and none is modified: a `result` member that some SDKs wrap around the value
is unwrapped, a bare list is a list's items or a table's records, and a server older than structured content may
send the JSON as its only text.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, assert_never, cast

from registry.models import ArtifactKind

_WRAPPER = "result"


class NotThereError(Exception):
    """The result holds no document of the kind; the message says where it was looked for."""


def documents(kind: ArtifactKind, result: Mapping[str, Any]) -> list[object]:
    """Return the documents of a result, at least one; raise `NotThereError`."""
    match kind:
        case "text":
            found = list(_texts(result))
        case "image" | "audio" | "video":
            found = list(_media(kind, result))
        case "table" | "list" | "chart" | "dashboard" | "form" | "card" | "message":
            return [_shaped(kind, _structured(kind, result))]
        case _:
            assert_never(kind)
    if not found:
        raise NotThereError(f"/content: holds no {kind}")
    return found


def _blocks(result: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    content = result.get("content")
    for index, block in enumerate(cast("list[object]", content) if isinstance(content, list) else ()):
        if isinstance(block, dict):
            yield index, cast("dict[str, Any]", block)


def _texts(result: Mapping[str, Any]) -> Iterator[object]:
    for index, block in _blocks(result):
        resource = block.get("resource")
        if block.get("type") == "text":
            yield {"text": block.get("text")}
        elif block.get("type") == "resource" and isinstance(resource, dict) and "text" in resource:
            yield {"text": cast("dict[str, Any]", resource)["text"]}
        elif block.get("type") != "resource_link":
            raise NotThereError(f"/content/{index}: is {_named(block)}, not text")


def _media(kind: str, result: Mapping[str, Any]) -> Iterator[object]:
    """Yield the media blocks; texts and links beside them are captions."""
    for index, block in _blocks(result):
        found = _medium(block)
        if found is None:
            continue
        if not str(found.get("mimeType")).startswith(f"{kind}/"):
            raise NotThereError(f"/content/{index}: is {found.get('mimeType')!r:.100}, not {kind}")
        yield found


def _medium(block: Mapping[str, Any]) -> dict[str, Any] | None:
    resource = block.get("resource")
    match block.get("type"):
        case "image" | "audio":
            return {"mimeType": block.get("mimeType"), "data": block.get("data")}
        case "resource_link" if "mimeType" in block:
            return {"mimeType": block["mimeType"], "uri": block.get("uri")}
        case "resource" if isinstance(resource, dict) and "blob" in resource:
            known = cast("dict[str, Any]", resource)
            return {"mimeType": known.get("mimeType"), "data": known["blob"]}
        case _:
            return None


def _structured(kind: str, result: Mapping[str, Any]) -> object:
    if result.get("structuredContent") is not None:
        return result["structuredContent"]
    texts = [block.get("text") for _, block in _blocks(result) if block.get("type") == "text"]
    if len(texts) == 1 and isinstance(texts[0], str):
        try:
            return json.loads(texts[0])
        except (ValueError, RecursionError):
            pass
    raise NotThereError(f"/structuredContent: is missing, and no text is the JSON of a {kind}")


def _shaped(kind: ArtifactKind, value: object) -> object:
    if isinstance(value, dict) and list(cast("dict[str, Any]", value)) == [_WRAPPER]:
        value = cast("dict[str, Any]", value)[_WRAPPER]
    if not isinstance(value, list):
        return cast("object", value)
    items = cast("list[object]", value)
    if kind == "list":
        return {"items": items}
    if kind == "table" and items and isinstance(items[0], dict):
        return {"columns": list(cast("dict[str, object]", items[0])), "rows": items}
    return items


def _named(block: Mapping[str, Any]) -> str:
    return f"{block.get('type')!r:.40}"
