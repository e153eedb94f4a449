"""Plain data → YAML that our reader (YAML 1.2) reads back as the same data."""

import yaml

from registry.source import Data, parse, read_plain


class _Dumper(yaml.SafeDumper):
    """Block style; quotes every text that YAML 1.1 or 1.2 would take for something else."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 -- lists are indented
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 -- the reader refuses aliases
        return True


def _text(_dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    try:
        is_plain = read_plain(text) == text
    except ValueError:
        is_plain = False
    return yaml.ScalarNode("tag:yaml.org,2002:str", text, style=None if is_plain else '"')


_Dumper.add_representer(str, _text)


def write_yaml(data: Data) -> str:
    """Return YAML; raises ValueError if the reader would not read the same."""
    for readable in (True, False):
        text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=readable, width=110)
        source, problems = parse(text.encode(), "")
        if not problems and source.root and source.root.data == data:
            return text
    raise ValueError("this cannot be written as YAML")
