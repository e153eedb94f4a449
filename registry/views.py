"""What the registry tells about itself (SPEC R5): names of variables and references, never a secret."""

from collections.abc import Mapping

from registry.models import Fleet, OAuth, Server, Tool, Variable

PROTOCOL_VERSIONS = ("2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28")
View = dict[str, object]


def describe_fleet(fleet: Fleet) -> View:
    """Return every server that exists now, for operators: `GET /registry`, `postern registry list --json`."""
    return {
        "fleet": fleet.fleet.name,
        "mode": fleet.fleet.mode,
        "protocol_versions": list(PROTOCOL_VERSIONS),
        "servers": [describe_server(fleet, server) for server in fleet.enabled_servers()],
    }


def describe_server(fleet: Fleet, server: Server) -> View:
    """Return one server in full, without any value of a variable, header or key."""
    return {
        **describe_to_consumers(fleet, server),
        "type": server.type,
        "transport": server.transport,
        "port": server.port,
        "endpoint": server.endpoint,
        "path": server.path,
        "dev_only": server.dev_only,
        "command": list(server.command),
        "oauth": _oauth(fleet, server),
        "variables": _variables(server.env),
        "headers": [header.name for header in server.headers],
        "tools": _things(server.tools),
        "prompts": _things(server.prompts),
        "resources": _things(server.resources),
        "tables": [{"name": table.name, "columns": dict(table.columns), "mode": table.mode} for table in server.tables],
        "contract": server.contract.model_dump(),
    }


def describe_to_consumers(fleet: Fleet, server: Server) -> View:
    """Return what somebody outside needs to use a server, and nothing about where or how it runs."""
    return {
        "name": server.name,
        "display_name": server.display_name,
        "description": server.description,
        "url": fleet.resource_url(server),
        "audience": fleet.audience(server),
        "token_required": server.oauth.required,
        "scopes": list(server.oauth.scopes),
        "authorization_servers": list(server.oauth.authorization_servers),
        "protocol_versions": list(PROTOCOL_VERSIONS),
    }


def _oauth(fleet: Fleet, server: Server) -> View:
    oauth: OAuth = server.oauth
    return {
        "required": oauth.required,
        "issuer": oauth.issuer,
        "audience": fleet.audience(server),
        "algorithms": list(oauth.algorithms),
        "scopes": list(oauth.scopes),
        "keys": [{"kid": key.kid, "not_after": key.not_after} for key in oauth.keys],
        "jwks": oauth.jwks.url if oauth.jwks else None,
        "authorization_servers": list(oauth.authorization_servers),
        "leeway_s": oauth.leeway_s,
    }


def _variables(declared: Mapping[str, Variable]) -> list[View]:
    return [
        {"name": name, "description": each.description, "secret": each.secret, "required": each.required}
        for name, each in declared.items()
    ]


def _things(declared: Mapping[str, Tool]) -> View:
    return {name: tool.model_dump(mode="json", exclude_defaults=True) for name, tool in declared.items()}
