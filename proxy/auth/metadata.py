"""Protected resource metadata of each server (RFC 9728); nothing at the root, so that no token fits two servers."""

from urllib.parse import urlsplit

from starlette.responses import JSONResponse, Response

from registry.models import Fleet, Server

WELL_KNOWN = "/.well-known/oauth-protected-resource"
HEADERS = {"access-control-allow-origin": "*", "cache-control": "public, max-age=300"}


def path_of(fleet: Fleet, server: Server) -> str:
    """Return the address path of a server's metadata: the well-known part stands before the resource's path."""
    return WELL_KNOWN + urlsplit(fleet.resource_url(server)).path


def url_of(fleet: Fleet, server: Server) -> str:
    """Return the whole address of a server's metadata, as challenges name it."""
    resource = urlsplit(fleet.resource_url(server))
    return f"{resource.scheme}://{resource.netloc}{path_of(fleet, server)}"


def issuer_of(fleet: Fleet, server: Server) -> str:
    """Return the issuer that tokens for a server must name.

    `oauth.issuer`, else the only authorization server, else ourselves (the development issuer `postern token`).
    """
    oauth = server.oauth
    if oauth.issuer is None and len(oauth.authorization_servers) == 1:
        return oauth.authorization_servers[0]
    return oauth.issuer or fleet.public_url()


def document(fleet: Fleet, server: Server) -> dict[str, object]:
    """Return the metadata document; `resource` is exactly the URL that clients use."""
    found: dict[str, object] = {
        "resource": fleet.resource_url(server),
        "authorization_servers": list(server.oauth.authorization_servers) or [issuer_of(fleet, server)],
        "bearer_methods_supported": ["header"],
    }
    if scopes := [scope for scope in server.oauth.scopes if scope != "offline_access"]:
        found["scopes_supported"] = scopes
    if server.display_name:
        found["resource_name"] = server.display_name
    return found


def has_metadata(server: Server) -> bool:
    """Whether a server takes tokens at all."""
    return server.oauth.required or bool(server.oauth.keys) or server.oauth.jwks is not None


def metadata_response(fleet: Fleet, name: str) -> Response:
    """Answer a request for the metadata of server `name`; 404 for everything that is not there."""
    server = next((s for s in fleet.enabled_servers() if s.name == name), None)
    if server is None or not has_metadata(server):
        return JSONResponse({"error": "not_found"}, 404, HEADERS)
    return JSONResponse(document(fleet, server), 200, HEADERS)
