"""Whether a result is the artifact that it was declared to be. Pure."""

from collections.abc import Callable, Mapping
from typing import Any

from registry.artifacts import layout, media, prose, tabular
from registry.artifacts.documents import NotThereError, documents
from registry.artifacts.schemas import checker_of
from registry.models import ArtifactKind

META_KEY = "postern/artifact"
"""The member of a result's `_meta` that names its variant."""

Rule = Callable[[Mapping[str, Any]], str | None]
_RULES: Mapping[ArtifactKind, Rule] = {
    "text": prose.text_fault,
    "table": tabular.table_fault,
    "list": tabular.list_fault,
    "chart": tabular.chart_fault,
    "form": layout.form_fault,
    "image": media.media_fault,
    "audio": media.media_fault,
    "video": media.media_fault,
    "card": layout.card_fault,
    "message": prose.message_fault,
}


def check_result(kind: ArtifactKind, result: Mapping[str, Any]) -> str | None:
    """Return where a tool's result is not the declared artifact and why, `/rows/3: …`; None if it is."""
    try:
        found = documents(kind, result)
    except NotThereError as error:
        return str(error)
    return next((wrong for document in found if (wrong := check_document(kind, document)) is not None), None)


def check_document(kind: ArtifactKind, document: object) -> str | None:
    """Return what is wrong with one document of a kind."""
    wrong = checker_of(kind).fault(document)
    if wrong is not None or not isinstance(document, dict):
        return wrong
    if kind == "dashboard":
        return layout.dashboard_fault(document, check_document)  # pyright: ignore[reportUnknownArgumentType]
    return _RULES[kind](document)  # pyright: ignore[reportUnknownArgumentType]
