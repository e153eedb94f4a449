"""What may be written shorter than the models say, written out: names from keys, plain variables, relative paths."""

from collections.abc import Mapping
from pathlib import Path

from registry.layout import SECTIONS
from registry.source import Data

FILE = "file:"
_REFERENCE_KEYS = frozenset({"secret", "value"})
_PATH_KEYS = frozenset({"cwd", "source"})
_VARIABLES: Mapping[str, str] = {"servers": "env", "agents": "variables"}
_FREE_FORM = frozenset({"output_schema", "settings"})


def expand(data: Mapping[str, Data], base: Path) -> dict[str, Data]:
    """Return a new tree in the long form; `base` is the directory that relative paths start from.

    Only well-formed parts are touched; what has a wrong type is left for the models to refuse.
    """
    fleet = {name: _anchored(value, base) for name, value in data.items()}
    for section in SECTIONS:
        entries = fleet.get(section)
        if isinstance(entries, dict):
            fleet[section] = {name: _entry(section, name, entry, base) for name, entry in entries.items()}
    audit = fleet.get("audit")
    if isinstance(audit, dict):
        fleet["audit"] = _with_paths(audit, ("checkpoint_file",), base)
    return fleet


def _entry(section: str, name: str, entry: Data, base: Path) -> Data:
    if not isinstance(entry, dict):
        return entry
    full: dict[str, Data] = {**_with_paths(entry, _PATH_KEYS, base), "name": name}
    variables = full.get(_VARIABLES[section])
    if isinstance(variables, dict):
        full[_VARIABLES[section]] = {key: _variable(value, base) for key, value in variables.items()}
    command = full.get("command")
    if isinstance(command, list) and command and isinstance(command[0], str) and "/" in command[0]:
        full["command"] = [_absolute(command[0], base), *command[1:]]
    return full


def _variable(value: Data, base: Path) -> Data:
    return value if isinstance(value, dict) else {"value": _reference(value, base)}


def _anchored(value: Data, base: Path) -> Data:
    if isinstance(value, dict):
        return {
            key: inner
            if key in _FREE_FORM
            else _reference(inner, base)
            if key in _REFERENCE_KEYS
            else _anchored(inner, base)
            for key, inner in value.items()
        }
    return [_anchored(inner, base) for inner in value] if isinstance(value, list) else value


def _with_paths(entry: dict[str, Data], keys: frozenset[str] | tuple[str, ...], base: Path) -> dict[str, Data]:
    return {k: _absolute(v, base) if k in keys and isinstance(v, str) and v else v for k, v in entry.items()}


def _reference(value: Data, base: Path) -> Data:
    if isinstance(value, str) and value.startswith(FILE) and len(value) > len(FILE):
        return FILE + _absolute(value.removeprefix(FILE), base)
    return value


def _absolute(path: str, base: Path) -> str:
    return str(base / path)
