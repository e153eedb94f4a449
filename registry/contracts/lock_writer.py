"""Plain data → YAML that reads well in a review: block style, texts of several lines as they are. Pure."""

import re
from collections.abc import Mapping
from typing import Any, cast

import yaml

from registry.source import Data, parse, read_plain

_WIDTH = 110
_BLOCK = re.compile(r"[^\s\n][^\n]*(?:\n+[^\s\n][^\n]*|\n+[ ]+[^\s\n][^\n]*)*\n?")
_TRAILING_SPACE = re.compile(r"[ \t]+(?:\n|$)")


class _Dumper(yaml.SafeDumper):
    """No aliases, which the reader refuses; lists are indented."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def _text(_dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return yaml.ScalarNode("tag:yaml.org,2002:str", text, style=_style(text))


def _style(text: str) -> str | None:
    if "\n" in text:
        return "|" if _BLOCK.fullmatch(text) and not _TRAILING_SPACE.search(text) else '"'
    try:
        return None if read_plain(text) == text else '"'
    except ValueError:
        return '"'


_Dumper.add_representer(str, _text)


def render(data: Mapping[str, Any]) -> str:
    """Return YAML."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH)
    return text


def is_readable(data: Data) -> bool:
    """Whether the reader gets back exactly these data, depth and size included."""
    nested: dict[str, Any] = {"a": {"b": {"c": {"d": {"e": data}}}}}
    try:
        source, problems = parse(render(nested).encode(), "")
    except (yaml.YAMLError, UnicodeEncodeError, RecursionError):
        return False
    return not problems and source.root is not None and _is_equal(source.root.data, nested)


def _is_equal(read: Any, written: Any) -> bool:
    """Compare with types: true is not 1, and 1 is not 1.0."""
    if type(read) is not type(written):
        return False
    if isinstance(written, dict):
        known = cast("dict[str, Any]", written)
        return list(read) == list(known) and all(_is_equal(read[key], value) for key, value in known.items())
    if isinstance(written, list):
        items = cast("list[Any]", written)
        return len(read) == len(items) and all(_is_equal(*pair) for pair in zip(read, items, strict=True))
    return bool(read == written)
