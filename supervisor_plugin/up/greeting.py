"""What a person reads when the fleet is up: addresses, a call to paste, a client's configuration, next steps. Pure."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

VERSION = "2026-07-28"
LEGACY_VERSION = "2025-11-25"
_CLIENT = {"name": "curl", "version": "1"}
_EXAMPLE = ("get_current_time", {"timezone": "Europe/Berlin"})


@dataclass(frozen=True, slots=True)
class Address:
    """One server as a client reaches it; `token` is None where none is needed, or only its issuer makes one.

    `is_legacy` is one that speaks no `VERSION`: whatever is called there wants a session first.
    """

    name: str
    display_name: str
    url: str
    tools: tuple[str, ...]
    token: str | None = field(default=None, repr=False)
    is_open: bool = False
    is_legacy: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """What a client sends to be recognised."""
        return {} if self.is_open else {"Authorization": f"Bearer {self.token or 'from its issuer'}"}


@dataclass(frozen=True, slots=True)
class Greeting:
    """Everything that the text is made of. `postern` is how this very program can be called from here."""

    addresses: tuple[Address, ...]
    token_minutes: int
    database: str
    registry: str
    state: str
    postern: str
    supervisorctl: str
    warnings: tuple[str, ...] = ()
    is_detached: bool = False


def render(greeting: Greeting) -> str:
    """Return the whole text."""
    width = max((len(address.name) for address in greeting.addresses), default=0)
    listed = [f"  {address.name.ljust(width)}  {address.url}  {address.display_name}" for address in greeting.addresses]
    registry, state = shlex.quote(greeting.registry), shlex.quote(greeting.state)
    audit = f"{greeting.postern} audit --state-dir {state}"
    stop = f"{greeting.postern} down --state-dir {state}" if greeting.is_detached else "Ctrl-C"
    parts = [
        "Postern is up, every server healthy." if not greeting.warnings else "Postern is up.",
        *greeting.warnings,
        "",
        *listed,
        "",
        *_call(greeting),
        f"A client's configuration (tokens good for {greeting.token_minutes} minutes):",
        "",
        client_configuration(greeting.addresses),
        "",
        "Then look around:",
        f"  the audit rows        {audit} query --limit 5",
        f"  as they come          {audit} tail",
        f"  another token         {greeting.postern} token --registry {registry} --server NAME --subject ME",
        f"  the fleet             {greeting.supervisorctl} fleet status",
        f"  its registry          {greeting.registry}",
        f"  logs                  {greeting.state}/log",
        f"  PostgreSQL            {greeting.database}",
        f"  stop everything       {stop}",
    ]
    return "\n".join(parts)


def client_configuration(addresses: tuple[Address, ...]) -> str:
    """Return the `mcpServers` document that MCP clients read."""
    servers = {
        address.name: {
            "type": "http",
            "url": address.url,
            **({"headers": address.headers} if address.headers else {}),
        }
        for address in addresses
    }
    return json.dumps({"mcpServers": servers}, indent=2)


def curl(address: Address) -> str:
    """Return a command that will be answered: the demo's tool, the list of tools, or the legacy era's handshake."""
    tool, arguments = _EXAMPLE
    if address.is_legacy:
        params = {"protocolVersion": LEGACY_VERSION, "capabilities": {}, "clientInfo": _CLIENT}
        return _command(address, {}, {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
    if tool in address.tools:
        return _curl(address, "tools/call", {"name": tool, "arguments": arguments})
    return _curl(address, "tools/list", {})


def _call(greeting: Greeting) -> list[str]:
    callable_ones = [address for address in greeting.addresses if address.token is not None or address.is_open]
    stateless = [address for address in callable_ones if not address.is_legacy] or callable_ones
    preferred = [address for address in stateless if _EXAMPLE[0] in address.tools] or stateless
    return ["A governed call, to paste into another terminal:", "", curl(preferred[0]), ""] if preferred else []


def _curl(address: Address, method: str, params: Mapping[str, object]) -> str:
    meta = {
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": _CLIENT,
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
    mirrored = {
        "MCP-Protocol-Version": VERSION,
        "Mcp-Method": method,
        **({"Mcp-Name": str(params["name"])} if "name" in params else {}),
    }
    return _command(address, mirrored, body)


def _command(address: Address, own: Mapping[str, str], body: Mapping[str, object]) -> str:
    kinds = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    headers = {**address.headers, **kinds, **own}
    lines = [f"curl -sS {shlex.quote(address.url)}"]
    lines += [f"  -H {shlex.quote(f'{name}: {value}')}" for name, value in headers.items()]
    lines.append(f"  -d {shlex.quote(json.dumps(body))}")
    return " \\\n".join(lines)
