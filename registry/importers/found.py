"""One server as found in somebody else's file."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from registry.source import Data

Placeholder = str
_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")
_VARIABLE = re.compile(r"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)\}")


class ImportFileError(Exception):
    """The file is not one that can be imported; the message says why."""


@dataclass(frozen=True, slots=True)
class FoundSecret:
    """A value that does not belong in a file.

    `variable` is set if the file already referred to an environment variable; `text` is what stood there (None for an
    input that is still to be given), and is never shown.
    """

    name: str
    variable: str | None = None
    text: str | None = field(default=None, repr=False)

    @property
    def is_whole(self) -> bool:
        """Whether the value itself stood in the file, and not a text with placeholders that the client fills in."""
        return bool(self.text) and not placeholders(self.text or "")


@dataclass(frozen=True, slots=True)
class FoundServer:
    """A server to be approved. Exactly one of `command` and `endpoint` is there.

    `env` and `headers` hold secrets unless they are plain text; `inputs` are placeholders that nobody has filled in;
    `extra` are keys that we do not know, for display.
    """

    name: str
    display_name: str
    description: str = ""
    command: tuple[str, ...] = ()
    endpoint: str | None = None
    transport: str = "stdio"
    path: str | None = None
    cwd: str | None = None
    env: Mapping[str, "FoundSecret | str"] = field(default_factory=dict[str, "FoundSecret | str"])
    headers: Mapping[str, FoundSecret] = field(default_factory=dict[str, FoundSecret])
    inputs: tuple[Placeholder, ...] = ()
    notes: tuple[str, ...] = ()
    extra: Mapping[str, Data] = field(default_factory=dict[str, Data])

    @property
    def command_line(self) -> str:
        """Return the whole command, or the whole address, as it is shown for approval."""
        return shlex.join(self.command) if self.command else self.endpoint or ""


def dns_label(text: str) -> str:
    """Turn a name into one that the registry takes."""
    label = re.sub(r"[^a-z0-9]+", "-", text.rsplit("/", 1)[-1].lower()).strip("-")[:63].strip("-")
    return label or "server"


def secret_of(name: str, text: str) -> FoundSecret:
    """Read an environment or header value: all of them count as secrets; `${VAR}` and `${env:VAR}` are references."""
    match = _VARIABLE.fullmatch(text)
    return FoundSecret(name, match[1]) if match else FoundSecret(name, None, text)


def placeholders(text: str) -> tuple[Placeholder, ...]:
    """Return what stands in `${…}` in a text."""
    return tuple(match[1] for match in _PLACEHOLDER.finditer(text))
