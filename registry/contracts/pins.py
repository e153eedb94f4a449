"""Digests that the registry itself pins (`tools.NAME.contract`), against the lock. Pure."""

from collections.abc import Iterator

from registry.contracts.locked import ServerLock
from registry.models import Server


def mismatches(server: Server, pins: ServerLock | None) -> Iterator[tuple[str, str]]:
    """Yield each tool whose digest in the registry is not the lock's, and what that one says."""
    if server.contract.drift == "skip":
        return
    for name, tool in server.tools.items():
        pin = pins.of("tools").get(name) if pins is not None else None
        if tool.contract is not None and (pin is None or pin.digest != tool.contract):
            yield name, f"the lock has {pin.digest}" if pin is not None else "the lock has no such tool"
