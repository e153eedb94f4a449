"""The schemas of the variants: files beside this module, compiled when they are first needed."""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, get_args

from registry.contracts.schemas import Checker, compile_schema
from registry.models import ArtifactKind

KINDS: tuple[ArtifactKind, ...] = get_args(ArtifactKind)


@cache
def schema_of(kind: ArtifactKind) -> Mapping[str, Any]:
    """Return the JSON Schema of a variant's document."""
    return json.loads((files("registry.artifacts") / "schemas" / f"{kind}.json").read_text(encoding="utf-8"))


@cache
def checker_of(kind: ArtifactKind) -> Checker:
    """Return the compiled schema of a variant's document."""
    return compile_schema(schema_of(kind), "output")
