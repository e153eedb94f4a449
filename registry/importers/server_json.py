"""`server.json` of the official MCP registry (schema 2025-12-11, and the snake_case files from before)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from registry.importers.found import FoundSecret, FoundServer, ImportFileError, dns_label
from registry.source import Data

Record = Mapping[str, Data]
_CURLY = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_POSTERNS_OWN = frozenset({"port", "host"})  # filled in when the server starts
_KNOWN = frozenset({"$schema", "name", "title", "description", "version", "packages", "remotes"})


def is_server_json(document: Record) -> bool:
    """Whether a document is a server.json, alone or as the registry's API wraps it."""
    server = _unwrapped(document)
    return isinstance(server.get("name"), str) and any(isinstance(server.get(k), list) for k in ("packages", "remotes"))


def _unwrapped(document: Record) -> Record:
    inner = document.get("server")
    return inner if isinstance(inner, dict) else document


def read_server_json(document: Record) -> tuple[FoundServer, ...]:
    """Return one proposal for each package and remote that can be run; raises `ImportFileError`."""
    server = _camel(_unwrapped(document))
    found = [_package(server, each) for each in _records(server, "packages")]
    found += [_remote(server, each) for each in _records(server, "remotes")]
    usable = [each for each in found if each]
    if not usable:
        raise ImportFileError("no package and no remote in it is of a kind that Postern can run")
    return tuple(usable)


def _camel(node: Record) -> Record:
    """Read old snake_case keys as the camelCase ones, at every level but inside free-form values."""
    return {_camel_key(key): _camel_value(value) for key, value in node.items()}


def _camel_value(value: Data) -> Data:
    if isinstance(value, dict):
        return dict(_camel(value))
    return [_camel_value(each) for each in value] if isinstance(value, list) else value


def _camel_key(key: str) -> str:
    head, *rest = key.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in rest) if head else key


def _records(holder: Record, key: str) -> list[Record]:
    listed = holder.get(key)
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


def _text(holder: Record, key: str, default: str = "") -> str:
    value = holder.get(key)
    return value if isinstance(value, str) else default


def _package(server: Record, package: Record) -> FoundServer | None:
    kind, identifier = _text(package, "registryType"), _text(package, "identifier") or _text(package, "name")
    transport = package.get("transport")
    spoken = _text(transport, "type", "stdio") if isinstance(transport, dict) else "stdio"
    inputs: dict[str, None] = {}
    variables = _variables(package, inputs)
    launch = _launch(kind, identifier, _text(package, "version"), tuple(variables))
    if launch is None or not identifier or spoken not in {"stdio", "streamable-http"}:
        return None
    runner, target = launch
    runtime = _arguments(package, "runtimeArguments", inputs)
    command = (*_runner(package, runner), *runtime, *target, *_arguments(package, "packageArguments", inputs))
    url = _text(transport, "url") if isinstance(transport, dict) else ""
    return replace(
        _proposal(server),
        command=command,
        transport="http" if spoken == "streamable-http" else "stdio",
        path=urlsplit(url).path if url and spoken == "streamable-http" else None,
        env=variables,
        inputs=tuple(inputs),
        notes=tuple(_notes(package, kind)),
    )


def _runner(package: Record, runner: tuple[str, ...]) -> tuple[str, ...]:
    hint = _text(package, "runtimeHint")
    return (hint, *runner[1:]) if hint and "/" not in hint else runner


def _launch(
    kind: str, identifier: str, version: str, variables: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Return how a package is run: the runner with its own options, and the package as the runner names it."""
    pinned = version and version != "latest"
    match kind:
        case "npm":
            return ("npx", "-y"), (f"{identifier}@{version}" if pinned else identifier,)
        case "pypi":
            return ("uvx",), (f"{identifier}=={version}" if pinned else identifier,)
        case "nuget":
            return ("dnx",), (f"{identifier}@{version}" if pinned else identifier, "--yes")
        case "oci":
            passed = tuple(word for name in variables for word in ("-e", name))
            tagged = identifier if ":" in identifier.rsplit("/", 1)[-1] or not pinned else f"{identifier}:{version}"
            return ("docker", "run", "-i", "--rm", *passed), (tagged,)
        case _:
            return None


def _notes(package: Record, kind: str) -> Iterator[str]:
    if not _text(package, "version") and kind != "oci":
        yield "no version is pinned: what runs can change under you"
    if _text(package, "fileSha256"):
        yield f"the publisher gives SHA-256 {_text(package, 'fileSha256')}; verify it"
    if _text(package, "runtimeHint") and "/" in _text(package, "runtimeHint"):
        yield f"runtime hint {_text(package, 'runtimeHint')!r} is a path and was ignored"


def _remote(server: Record, remote: Record) -> FoundServer | None:
    if _text(remote, "type") not in {"streamable-http", "sse"} or not _text(remote, "url"):
        return None
    inputs: dict[str, None] = {}
    url = _filled(_text(remote, "url"), remote, inputs, ask_unknown=True)
    headers = {_text(each, "name"): _secret(each) for each in _records(remote, "headers") if _text(each, "name")}
    old = _text(remote, "type") == "sse"
    notes = ("it speaks the old SSE transport; Postern needs its streamable HTTP address",) if old else ()
    return replace(
        _proposal(server),
        endpoint=url,
        transport="http",
        headers=headers,
        inputs=tuple(inputs),
        notes=(*notes, "the registry does not verify who owns this address"),
    )


def _proposal(server: Record) -> FoundServer:
    name = _text(server, "name")
    title = _text(server, "title") or name
    extra = {key: value for key, value in server.items() if key not in _KNOWN}
    return FoundServer(dns_label(name), title, _text(server, "description"), extra=extra)


def _secret(entry: Record) -> FoundSecret:
    return FoundSecret(_text(entry, "name"), None, _text(entry, "value") or None)


def _variables(package: Record, inputs: dict[str, None]) -> dict[str, FoundSecret | str]:
    """Read environment variables: a known, open value stands in the registry, everything else is a reference."""
    found: dict[str, FoundSecret | str] = {}
    for entry in _records(package, "environmentVariables"):
        name = _text(entry, "name")
        value = _text(entry, "value") or _text(entry, "default")
        if not name:
            continue
        if entry.get("isSecret") is True or (not value and entry.get("isRequired") is True):
            found[name] = _secret(entry)
        elif value:
            found[name] = _filled(value, entry, inputs)
    return found


def _arguments(package: Record, key: str, inputs: dict[str, None]) -> tuple[str, ...]:
    words: list[str] = []
    for entry in _records(package, key):
        is_secret = entry.get("isSecret") is True  # it would stand in a file, and in every list of processes
        value = "" if is_secret else _text(entry, "value") or _text(entry, "default")
        name = _text(entry, "name")
        is_named = _text(entry, "type") == "named"
        if not value and not (is_named and entry.get("isRequired") is True):
            if not is_named and entry.get("isRequired") is True:
                asked = _text(entry, "valueHint") or "argument"
                inputs[asked] = None
                words.append(f"${{{asked}}}")
            continue
        filled = _filled(value, entry, inputs)
        words += [word for word in ((name, filled) if is_named else (filled,)) if word]
    return tuple(words)


def _filled(text: str, entry: Record, inputs: dict[str, None], *, ask_unknown: bool = False) -> str:
    """Put the declared values of `{variables}` in; one without a value becomes an input, written `${name}`.

    What is not declared is left as it is, as the format says; an address with a gap is of no use, so it asks.
    """
    variables = entry.get("variables")
    known = variables if isinstance(variables, dict) else {}

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        variable = known.get(name)
        value = ""
        if isinstance(variable, dict) and variable.get("isSecret") is not True:
            value = _text(variable, "value") or _text(variable, "default")
        if value or (variable is None and not ask_unknown) or name in _POSTERNS_OWN:
            return value or match[0]
        inputs[name] = None
        return f"${{{name}}}"

    return _CURLY.sub(fill, text)
