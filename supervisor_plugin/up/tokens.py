"""Addresses of the fleet with a short-lived token each, made by `postern token` as anybody could make them."""

import asyncio
from collections.abc import Container, Iterable

from registry.models import Fleet, Server
from supervisor_plugin.paths import Paths
from supervisor_plugin.up.greeting import Address

TOKEN_MINUTES = 60
SUBJECT = "demo"


async def addresses(fleet: Fleet, paths: Paths, legacy: Container[str]) -> tuple[Address, ...]:
    """Return every enabled server; a token that cannot be made here (the issuer is somebody else) is left out."""
    servers = fleet.enabled_servers()
    tokens = await asyncio.gather(*(_token(server, paths) for server in servers))
    return tuple(
        Address(
            server.name,
            server.display_name,
            fleet.resource_url(server),
            tuple(server.tools),
            token,
            not server.oauth.required,
            server.name in legacy,
        )
        for server, token in zip(servers, tokens, strict=True)
    )


def wanted_scopes(server: Server) -> list[str]:
    """Return every scope that the server's declared tools need, and its own."""
    tools = (*server.tools.values(), *server.prompts.values(), *server.resources.values())
    needed: Iterable[str] = (
        scope for tool in tools for scope in (*tool.scopes, *(s for way in tool.any_of for s in way))
    )
    return list(dict.fromkeys((*server.oauth.scopes, *needed)))


async def _token(server: Server, paths: Paths) -> str | None:
    if not server.oauth.keys or not server.oauth.required:
        return None
    process = await asyncio.create_subprocess_exec(
        str(paths.postern),
        "token",
        *("--registry", str(paths.registry)),
        *("--server", server.name),
        *("--scope", " ".join(wanted_scopes(server))),
        *("--subject", SUBJECT),
        *("--ttl", f"{TOKEN_MINUTES}m"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    output, _ = await process.communicate()
    return output.decode().strip() if process.returncode == 0 else None
