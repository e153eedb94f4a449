"""The tables of docs/registry.md name every key that the registry knows, with its default, and no other."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args, get_origin

from pydantic import BaseModel

from registry.models import Fleet, Server

GUIDE = (Path(__file__).parents[2] / "docs/registry.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([a-z_.*]+)` \| (.*?) \| .*\|$", re.MULTILINE)
AS_ANOTHER = {"proxy.admin", "trusted_proxies.*.assertion.jwks", "agents.*.variables", "prompts", "resources"}
OF_THE_PAGE = {"version", "servers", "name", "agents.*.name"}


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every key of a section as the tables write it, `*` for a name; what is written as another section is one key."""
    for name, field in model.model_fields.items():
        path, inner = f"{prefix}{name}", section_in(field.annotation)
        if path in OF_THE_PAGE:
            continue
        if inner is None or path in AS_ANOTHER:
            yield path, written(field.default)
        else:
            yield from keys(inner, f"{path}.*." if get_origin(field.annotation) is Mapping else f"{path}.")


def section_in(annotation: object) -> type[BaseModel] | None:
    """The section that a key holds: alone, in a list, or under names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := section_in(part)) is not None), None)


def written(default: object) -> str:
    match default:
        case bool():
            return f"`{str(default).lower()}`"
        case float():
            return f"`{default:g}`"
        case int() | str() if default != "":
            return f"`{default}`"
        case tuple() if default:
            return ", ".join(f"`{each}`" for each in default)
        case _:
            return "–"


def test_every_key_has_its_row_and_its_default() -> None:
    rows = dict(ROW.findall(GUIDE.partition("## Every key")[2]))
    assert rows == {**dict(keys(Fleet)), **dict(keys(Server))}
