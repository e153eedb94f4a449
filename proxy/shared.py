"""What every server of a fleet has to know of the others, found out once: with it each is compiled by itself."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from registry.addresses import canonical_audience
from registry.models import Agent, Fleet
from registry.permissions import Implications


@dataclass(frozen=True, slots=True)
class Shared:
    """What is the same for every server.

    `ceilings` are all permissions that each trusted proxy may assert, with what they imply; `audiences` those of all
    servers, canonical; agents are found by the subjects and clients that they name.
    """

    implications: Implications
    ceilings: Mapping[str, frozenset[str]]
    audiences: frozenset[str]
    by_subject: Mapping[str, tuple[Agent, ...]]
    by_client: Mapping[str, tuple[Agent, ...]]

    @classmethod
    def of(cls, fleet: Fleet) -> Self:
        """Look at the whole fleet. Raises `PermissionCycleError` or `PermissionSizeError`."""
        implications = Implications.of(fleet.permissions)
        return cls(
            implications,
            {name: implications.expand(proxy.permissions) for name, proxy in fleet.trusted_proxies.items()},
            frozenset(canonical_audience(fleet.audience(server)) for server in fleet.servers.values()),
            _index(fleet.agents.values(), lambda agent: agent.subjects),
            _index(fleet.agents.values(), lambda agent: agent.clients),
        )

    def agents_of(self, subject: str | None, client: str | None) -> tuple[Agent, ...]:
        """Return the agents that a caller acts as: every manifest that names its subject or its client binds."""
        found = [*self.by_subject.get(subject or "", ()), *self.by_client.get(client or "", ())]
        return tuple({agent.name: agent for agent in found}.values())


def _index(agents: Iterable[Agent], keys: Callable[[Agent], Iterable[str]]) -> Mapping[str, tuple[Agent, ...]]:
    index: dict[str, tuple[Agent, ...]] = {}
    for agent in agents:
        for key in keys(agent):
            if key:
                index[key] = (*index.get(key, ()), agent)
    return index
