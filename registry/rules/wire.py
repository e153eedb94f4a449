"""What the proxy writes into requests to a server: header fields and paths that HTTP has, or no call gets through."""

import re
from collections.abc import Iterator

from registry.problems import quoted
from registry.rules.base import Context, Finding, at
from registry.secrets import Secret
from registry.source import Pointer

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 §5.6.2
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_PATH = re.compile(r"/[!-\"$-~]*")
_FRAMING = frozenset(
    {
        "host", "content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection", "te", "trailer",
        "upgrade", "expect", "accept-encoding",
    }
)  # fmt: skip
_PROTOCOL = frozenset({"accept", "content-type", "last-event-id"})
_PROTOCOL_PREFIXES = ("mcp-", "x-postern-")


def bad_header_name(context: Context) -> Iterator[Finding]:
    for pointer, name in _header_names(context):
        if not _TOKEN.fullmatch(name):
            yield Finding(pointer, f"{quoted(name)} cannot be the name of a header")
    for server in context.servers():
        for index, header in enumerate(server.headers):
            name = header.name.lower()
            if name in _FRAMING | _PROTOCOL or name.startswith(_PROTOCOL_PREFIXES):
                hint = "leave it out; `headers:` is for credentials"
                yield Finding(at(server, "headers", index, "name"), f"the proxy itself writes {quoted(name)}", hint)


def _header_names(context: Context) -> Iterator[tuple[Pointer, str]]:
    for server in context.servers():
        for index, header in enumerate(server.headers):
            yield at(server, "headers", index, "name"), header.name
    for name, proxy in context.fleet.trusted_proxies.items():
        if proxy.assertion:
            yield ("trusted_proxies", name, "assertion", "header"), proxy.assertion.header


def bad_header_value(context: Context) -> Iterator[Finding]:
    for server in context.servers():
        for index, header in enumerate(server.headers):
            found = context.secret(header.value)
            if isinstance(found, Secret) and _CONTROL.search(found.reveal()):
                hint = "store one line without a line ending"
                yield Finding(at(server, "headers", index, "value"), "the value holds a control character", hint)


def bad_path(context: Context) -> Iterator[Finding]:
    for server in context.servers():
        if server.type == "internal" and not _PATH.fullmatch(server.path):
            yield Finding(at(server, "path"), f"{quoted(server.path)} cannot be a path of the server")
