"""Contracts: what `strict` promises is there, and what is pinned can be held against a call (SPEC C1, C2)."""

from collections.abc import Iterator, Mapping

from registry.contracts.locked import ServerLock
from registry.contracts.pins import mismatches
from registry.contracts.schemas import Purpose, SchemaError, compile_schema
from registry.models import DriftMode, Server
from registry.problems import quoted
from registry.rules.base import Context, Finding, at
from registry.schema_problems import near
from registry.source import Pointer

OTHERS = "*"
_PINNED: Mapping[str, Purpose] = {"inputSchema": "input", "outputSchema": "output"}


def unlocked(context: Context) -> Iterator[Finding]:
    """A strict server that nobody has locked would have everything withheld."""
    if context.lock is None:
        return
    for server in context.servers():
        strict = next((m for m in ("drift", "resources") if getattr(server.contract, m) == "strict"), None)
        if strict is not None and context.lock.find(server.name) is None:
            message = f"strict, but {context.lock_file} has no server {server.name}: all of it would be withheld"
            hint = f"run `postern lock --start {server.name}`, review what it pins, commit it"
            yield Finding(at(server, "contract", strict), message, hint)


def other_digest(context: Context) -> Iterator[Finding]:
    if context.lock is None:
        return
    for server in context.servers():
        for name, told in mismatches(server, context.lock.find(server.name)):
            hint = f"`postern lock --diff {server.name}` shows what the server says; write the digest that was reviewed"
            yield Finding(at(server, "tools", name, "contract"), told, hint)


def unknown(context: Context) -> Iterator[Finding]:
    """What a strict server declares and the lock does not know can never be used."""
    for server, pins in _locked(context):
        if server.contract.drift != "strict":
            continue
        for kind, declared in (("tools", server.tools), ("prompts", server.prompts)):
            pinned = pins.of("tools" if kind == "tools" else "prompts")
            for name, tool in declared.items():
                if name not in pinned and name != OTHERS and tool.contract is None:
                    message = f"the lock of {server.name} has no {kind.removesuffix('s')} {quoted(name)}"
                    yield Finding(at(server, kind, name), message, near(name, pinned), key=True)


def unusable_schema(context: Context) -> Iterator[Finding]:
    """A schema that cannot be compiled refuses every call of its tool, or withholds every result."""
    for server in context.servers():
        for name, tool in server.tools.items():
            fault = _fault(tool.output_schema, "output") if tool.output_schema is not None else None
            if fault is not None:
                yield Finding(at(server, "tools", name, "output_schema"), f"cannot be used: {fault}")
    for server, pins in _locked(context):
        yield from _unusable_pins(server, pins)


def _unusable_pins(server: Server, pins: ServerLock) -> Iterator[Finding]:
    modes: Mapping[Purpose, DriftMode] = {"input": server.contract.input, "output": server.contract.output}
    for name, pin in pins.of("tools").items():
        entry = name if name in server.tools else OTHERS
        if entry not in server.tools:
            continue
        place: Pointer = at(server, "tools", entry)
        for member, purpose in _PINNED.items():
            if modes[purpose] != "strict" or (member not in pin.definition and purpose == "output"):
                continue
            fault = _fault(pin.definition.get(member), purpose)
            if fault is not None:
                message = f"the pinned {member} of tool {quoted(name)} cannot be used: {fault}"
                hint = f"do not declare the tool, or let it pass unchecked with `contract: {{{purpose}: warn}}`"
                yield Finding(place, message, hint, key=True)


def _locked(context: Context) -> Iterator[tuple[Server, ServerLock]]:
    for server in context.servers():
        pins = context.lock.find(server.name) if context.lock is not None else None
        if pins is not None:
            yield server, pins


def _fault(schema: object, purpose: Purpose) -> str | None:
    try:
        compile_schema(schema, purpose)
    except SchemaError as error:
        return str(error)
    return None
