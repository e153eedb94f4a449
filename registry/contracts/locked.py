"""The lock: what was reviewed of each server. Values only; `lockfile` reads and writes them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from registry.contracts.catalogue import Catalogue
from registry.contracts.definitions import KINDS, Kind, Pin


@dataclass(frozen=True, slots=True)
class ServerLock:
    """One server as it was pinned. `server` and `protocol` tell where the pins came from and bind nobody."""

    items: Mapping[Kind, Mapping[str, Pin]] = field(default_factory=dict[Kind, Mapping[str, Pin]])
    instructions: str | None = None
    server: str = ""
    protocol: str = ""

    def of(self, kind: Kind) -> Mapping[str, Pin]:
        """Return the pins of one kind."""
        return self.items.get(kind, {})

    @classmethod
    def of_catalogue(cls, live: Catalogue) -> "ServerLock":
        """Pin what is offered now."""
        items: dict[Kind, Mapping[str, Pin]] = {
            kind: {name: Pin(item) for name, item in sorted(live.of(kind).items())} for kind in KINDS if live.of(kind)
        }
        return cls(items, live.instructions, live.server, live.protocol)


@dataclass(frozen=True, slots=True)
class Lock:
    """Every pinned server by name."""

    servers: Mapping[str, ServerLock] = field(default_factory=dict[str, ServerLock])

    def find(self, server: str) -> ServerLock | None:
        """Return the pins of a server; None if it was never locked."""
        return self.servers.get(server)
