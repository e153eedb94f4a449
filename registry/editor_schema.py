"""The JSON Schema of registry files, as VS Code's YAML extension and other editors read it (draft-07)."""

from copy import deepcopy
from typing import Any, cast

from registry.layout import SECTIONS
from registry.models import Fleet

DRAFT = "http://json-schema.org/draft-07/schema#"
_SHORT_TEXT = {"type": "string", "description": "The value, or a reference: env:NAME, file:/path, store:name"}
_NAME = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
_INCLUDE = {
    "description": "Files with more `servers:` and `agents:`, relative to this one; * only in the file name",
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
}

Schema = dict[str, Any]


def editor_schema() -> Schema:
    """Return one schema for the root file and for included ones; it says what the loader takes, shorthand included."""
    schema = Fleet.model_json_schema(ref_template="#/definitions/{model}")
    definitions = cast("dict[str, Schema]", schema.pop("$defs"))
    for named in ("Server", "Agent"):
        _drop_required(definitions[named], "name")
    for named, field in (("Server", "env"), ("Agent", "variables")):
        _allow_plain_value(definitions[named]["properties"][field])
    for section in SECTIONS:
        schema["properties"][section]["propertyNames"] = {"pattern": _NAME}
    schema["properties"]["include"] = deepcopy(_INCLUDE)
    _drop_required(schema, "version")  # an included file has none; the loader asks for it in the root file
    return {"$schema": DRAFT, "title": "Postern registry", **_plain(schema), "definitions": _plain(definitions)}


def _drop_required(schema: Schema, name: str) -> None:
    required = [entry for entry in schema.get("required", []) if entry != name]
    schema.pop("required", None)
    if required:
        schema["required"] = required


def _allow_plain_value(field: Schema) -> None:
    field["additionalProperties"] = {"anyOf": [_SHORT_TEXT, field["additionalProperties"]]}


def _plain(node: Any) -> Any:
    """Drop generated titles, which editors would show above the descriptions."""
    if isinstance(node, dict):
        entries = cast("Schema", node)
        return {k: _plain(v) for k, v in entries.items() if not (k == "title" and isinstance(v, str))}
    return [_plain(entry) for entry in cast("list[Any]", node)] if isinstance(node, list) else node
