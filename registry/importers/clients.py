"""Configuration files of MCP clients: Claude Desktop, Claude Code, Cursor, VS Code, and their relatives."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from registry.importers.found import FoundSecret, FoundServer, ImportFileError, dns_label, placeholders, secret_of
from registry.source import Data

_ROOTS = ("mcpServers", "servers")
_URLS = ("url", "serverUrl", "httpUrl")
_SECRET_OPTION = re.compile(
    r"(--?[\w-]*(?:token|secret|passw(?:or)?d|pass|(?:api|access|secret|private)[-_]?key))(=.+)?",
    re.IGNORECASE | re.DOTALL,
)
_SECRET_WORD = re.compile(r"(?i)^(?:sk-|ghp_|github_pat_|xox[abp]-|AKIA|eyJ)|bearer |://[^/@\s]+:[^/@\s]+@")
_LEFT_OUT = (
    "an argument looks like a secret and was left out: everybody on the machine sees arguments, "
    "so let the server read it from `env:`"
)
_REMOTE_TYPES = frozenset({"http", "streamable-http", "streamableHttp", "streamable_http", "sse"})
_KNOWN = frozenset(
    {"type", "transport", "command", "args", "env", "cwd", "description", "headers", "disabled", "envFile", *_URLS}
)


def read_clients(document: Mapping[str, Data]) -> tuple[FoundServer, ...]:
    """Return the servers under `mcpServers`, `servers`, `mcp.servers`, or of a bare map; raises `ImportFileError`."""
    found = [_server(name, entry) for name, entry in _entries(document)]
    if not found:
        raise ImportFileError("there is no server in the file (looked for mcpServers, servers, and a bare map)")
    return tuple(found)


def _entries(document: Mapping[str, Data]) -> Iterator[tuple[str, Mapping[str, Data]]]:
    nested = document.get("mcp")
    holders = [document, nested] if isinstance(nested, dict) else [document]
    for holder in holders:
        for root in _ROOTS:
            servers = holder.get(root)
            if isinstance(servers, dict):
                yield from _usable(servers)
                return
            if isinstance(servers, list):  # Continue's form: a list of entries with a name each
                yield from _usable({str(entry.get("name", "")): entry for entry in servers if isinstance(entry, dict)})
                return
    yield from ((name, entry) for name, entry in document.items() if isinstance(entry, dict) and _is_server(entry))


def _usable(servers: Mapping[str, Data]) -> Iterator[tuple[str, Mapping[str, Data]]]:
    for name, entry in servers.items():
        if not isinstance(entry, dict) or not _is_server(entry):
            raise ImportFileError(f"server {name!r} has neither a command nor a url")
        yield name, entry


def _is_server(entry: Mapping[str, Data]) -> bool:
    return any(isinstance(entry.get(key), str) for key in ("command", *_URLS))


def _server(name: str, entry: Mapping[str, Data]) -> FoundServer:
    description = entry.get("description")
    common = FoundServer(
        name=dns_label(name),
        display_name=name,
        description=description if isinstance(description, str) else "",
        notes=tuple(_notes(entry)),
        extra={key: value for key, value in entry.items() if key not in _KNOWN},
    )
    return _local(common, entry) if isinstance(entry.get("command"), str) else _remote(common, entry)


def _local(common: FoundServer, entry: Mapping[str, Data]) -> FoundServer:
    name = common.display_name
    words = tuple(_texts(name, entry.get("args"), "args"))
    open_words = tuple(_without_secrets(words))
    command = (str(entry["command"]), *open_words)
    cwd = entry.get("cwd")
    if open_words != words:
        common = replace(common, notes=(*common.notes, _LEFT_OUT))
    inputs = [each for word in (*command, str(cwd or "")) for each in placeholders(word)]
    return replace(
        common,
        command=command,
        cwd=cwd if isinstance(cwd, str) else None,
        env=dict(_secrets(name, entry.get("env"), "env")),
        inputs=tuple(dict.fromkeys(inputs)),
    )


def _remote(common: FoundServer, entry: Mapping[str, Data]) -> FoundServer:
    url = next(str(entry[key]) for key in _URLS if isinstance(entry.get(key), str))
    known = url.startswith(("http://", "https://", "${"))
    notes = () if known else ("this kind of address is not supported; only http and https are",)
    return replace(
        common,
        endpoint=url,
        transport="http",
        headers=dict(_secrets(common.display_name, entry.get("headers"), "headers")),
        inputs=tuple(dict.fromkeys(placeholders(url))),
        notes=(*common.notes, *notes),
    )


def _notes(entry: Mapping[str, Data]) -> Iterator[str]:
    kind = entry.get("type", entry.get("transport"))
    if kind == "sse" or str(entry.get("url", "")).rstrip("/").endswith("/sse"):
        yield "it speaks the old SSE transport; Postern needs its streamable HTTP address"
    elif isinstance(kind, str) and kind not in _REMOTE_TYPES and kind != "stdio":
        yield f"transport {kind!r} is not known"
    if entry.get("disabled") is True:
        yield "it was disabled in the file"
    if "envFile" in entry:
        yield "its envFile is not read; declare what it needs under `env:`"


def _without_secrets(words: tuple[str, ...]) -> Iterator[str]:
    """Put a placeholder where an argument looks like a secret: it would stand in a file and in lists of processes."""
    expected: str | None = None
    for number, word in enumerate(words, start=1):
        option = _SECRET_OPTION.fullmatch(word)
        name, expected = expected, None
        if placeholders(word):
            yield word
        elif option and option[2]:
            yield f"{option[1]}=${{{option[1].lstrip('-')}}}"
        elif option:
            expected = option[1].lstrip("-")
            yield word
        elif name and not word.startswith("-"):
            yield f"${{{name}}}"
        else:
            yield f"${{argument-{number}}}" if _SECRET_WORD.search(word) else word


def _texts(name: str, value: Data, key: str) -> Iterator[str]:
    if value is None:
        return
    if not isinstance(value, list):
        raise ImportFileError(f"server {name!r}: {key} is not a list")
    for word in value:
        if not isinstance(word, str | int | float) or isinstance(word, bool):
            raise ImportFileError(f"server {name!r}: {key} holds something that is not text")
        yield str(word)


def _secrets(name: str, value: Data, key: str) -> Iterator[tuple[str, FoundSecret]]:
    if value is None:
        return
    if not isinstance(value, dict):
        raise ImportFileError(f"server {name!r}: {key} is not an object")
    for variable, text in value.items():
        if isinstance(text, dict | list):
            raise ImportFileError(f"server {name!r}: {key}.{variable} is not text")
        shown = "" if text is None else str(text).lower() if isinstance(text, bool) else str(text)
        yield variable, secret_of(variable, shown)
