"""How servers are called."""

from collections.abc import Iterator

from registry.layout import SECTIONS
from registry.problems import quoted
from registry.rules.base import Context, Finding, at

RESERVED = {
    "postern-proxy": "this name is taken by a program of Postern",
    "postern-fleet": "this name is taken by a program of Postern",
    "supervisord": "its log would be the one of supervisord itself",
    "all": "`fleet stop all` and `supervisorctl stop all` mean every server",
}


def mismatch(context: Context) -> Iterator[Finding]:
    for section in SECTIONS:
        entries = context.layout.declared.get(section)
        for key, entry in entries.items() if isinstance(entries, dict) else ():
            given = entry.get("name", key) if isinstance(entry, dict) else key
            if given != key:
                yield Finding(
                    (section, key, "name"), f"{quoted(given)} is not the key {quoted(key)} that it stands under"
                )


def reserved(context: Context) -> Iterator[Finding]:
    for server in context.servers():
        if (why := RESERVED.get(server.name)) is not None:
            yield Finding(at(server), why, key=True)


def empty_display_name(context: Context) -> Iterator[Finding]:
    for server in context.servers():
        if not server.display_name.strip():
            yield Finding(at(server, "display_name"), "people see this name; it is empty")


def empty_description(context: Context) -> Iterator[Finding]:
    for server in context.servers():
        if not server.description.strip():
            yield Finding(at(server, "description"), "it is empty")
