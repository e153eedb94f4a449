"""Every shape that a tool of the fleet can return, from registry and lock. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from registry.artifacts.schemas import schema_of
from registry.contracts.definitions import Pin
from registry.contracts.locked import Lock, ServerLock
from registry.models import Fleet, Server, Tool

OTHERS = "*"
UNDECLARED = "undeclared"
_SHOWN_MEMBERS = 8


@dataclass(frozen=True, slots=True)
class Shape:
    """One tool's output. `artifact` is the declared variant; the schemas are what its results are checked against."""

    server: str
    tool: str
    artifact: str | None
    digest: str | None
    pinned: Mapping[str, Any] | None
    declared: Mapping[str, Any] | None

    @property
    def summary(self) -> str:
        """Say the shape in a few words: `table`, `{id: integer, text?: string}`, `undeclared`."""
        schemas = [brief(schema) for schema in (self.pinned, self.declared) if schema is not None]
        return " and ".join([*([self.artifact] if self.artifact else []), *schemas]) or UNDECLARED

    def view(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        artifact = {"kind": self.artifact, "schema": schema_of(cast("Any", self.artifact))} if self.artifact else None
        return {
            "server": self.server,
            "tool": self.tool,
            "contract": self.digest,
            "artifact": artifact,
            "output_schema": self.pinned,
            "registry_schema": self.declared,
        }


def shapes(fleet: Fleet, lock: Lock) -> Iterator[Shape]:
    """Yield every tool that is declared, in file order; `*` stands for all others that are pinned, and for the rest."""
    for server in fleet.enabled_servers():
        pins = (lock.find(server.name) or ServerLock()).of("tools")
        offered = [name for name in pins if OTHERS in server.tools]
        for name in dict.fromkeys((*(each for each in server.tools if each != OTHERS), *offered)):
            yield _shape(server, name, server.tools.get(name) or server.tools[OTHERS], pins.get(name))
        if OTHERS in server.tools:
            yield _shape(server, OTHERS, server.tools[OTHERS], None)


def _shape(server: Server, name: str, tool: Tool, pin: Pin | None) -> Shape:
    schema: object = pin.definition.get("outputSchema") if pin is not None else None
    pinned = cast("Mapping[str, Any]", schema) if isinstance(schema, Mapping) else None
    return Shape(server.name, name, tool.artifact, pin.digest if pin is not None else None, pinned, tool.output_schema)


def brief(schema: Mapping[str, Any], depth: int = 0) -> str:
    """Say a schema in one line."""
    properties: object = schema.get("properties")
    if isinstance(properties, Mapping) and depth < 2:
        required = cast("list[str]", schema.get("required") or [])
        known = cast("Mapping[str, Any]", properties)
        members = [f"{name}{'' if name in required else '?'}: {_of(each, depth)}" for name, each in known.items()]
        more = ["…"] if len(members) > _SHOWN_MEMBERS else []
        return f"{{{', '.join([*members[:_SHOWN_MEMBERS], *more])}}}"
    items: object = schema.get("items")
    if schema.get("type") == "array":
        return f"[{_of(cast('object', items), depth)}]" if isinstance(items, Mapping) else "array"
    kind: object = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(map(str, cast("list[object]", kind)))
    return str(kind or ("one of several" if {"anyOf", "oneOf", "enum"} & {*schema} else "any"))


def _of(schema: object, depth: int) -> str:
    return brief(cast("Mapping[str, Any]", schema), depth + 1) if isinstance(schema, Mapping) else "any"
