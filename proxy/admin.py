"""`GET /registry`: the fleet for administrators, behind the admin scope (SPEC R5). No secret shows its value."""

from time import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from proxy.auth.assertion import Assertions
from proxy.auth.bearer import ServerAuth
from proxy.auth.challenges import Challenges
from proxy.auth.claims import Expectations, canonical_audience
from proxy.auth.keys import Secrets, read_hmac_keys
from proxy.auth.metadata import HEADERS, WELL_KNOWN
from proxy.auth.nonces import NoNonces
from proxy.errors import Refusal
from registry.models import Fleet, OAuth
from registry.permissions import Implications
from registry.views import describe_fleet

PATH = "/registry"


class AdminDoor:
    """The administrators' resource server: audience, keys and scope of its own. Closed unless `proxy.admin` is set."""

    def __init__(self, fleet: Fleet, secrets: Secrets) -> None:
        self._fleet = fleet
        self._implications = Implications.of(fleet.permissions)
        self._scope = fleet.proxy.admin_scope
        self._resource = fleet.admin_url()
        self._challenges = Challenges(f"{fleet.public_url()}{WELL_KNOWN}{PATH}", [self._scope])
        self._auth = self._build(fleet.proxy.admin, secrets) if fleet.proxy.admin is not None else None

    def _build(self, oauth: OAuth, secrets: Secrets) -> ServerAuth:
        audience = canonical_audience(oauth.audience or self._resource)
        others = frozenset(canonical_audience(self._fleet.audience(server)) for server in self._fleet.servers.values())
        expected = Expectations(self._issuer(oauth), audience, others - {audience}, oauth.leeway_s)
        nobody = Assertions("", (), {}, NoNonces())
        required = oauth.model_copy(update={"required": True})
        return ServerAuth(required, expected, read_hmac_keys(oauth.keys, secrets), nobody, self._challenges)

    def _issuer(self, oauth: OAuth) -> str:
        return oauth.issuer or next(iter(oauth.authorization_servers), self._fleet.public_url())

    async def registry(self, request: Request) -> Response:
        """Answer with every enabled server, its needs and its declarations; the names of variables only."""
        if self._auth is None:
            return JSONResponse({"error": "not_found", "hint": "set proxy.admin in the registry"}, 404)
        found = await self._auth.authenticate(request.scope["headers"], time())
        if isinstance(found, Refusal):
            return _refused(found)
        if self._implications.match(found.scopes, (self._scope,)) is None:
            challenge = self._challenges.insufficient((self._scope,)).decode()
            return JSONResponse({"error": "insufficient_scope"}, 403, {"www-authenticate": challenge})
        return JSONResponse(describe_fleet(self._fleet), 200, {"cache-control": "no-store"})

    async def metadata(self, _request: Request) -> Response:
        """Answer with the RFC 9728 document of this resource."""
        admin = self._fleet.proxy.admin
        if admin is None:
            return JSONResponse({"error": "not_found"}, 404, HEADERS)
        document = {
            "resource": self._resource,
            "authorization_servers": list(admin.authorization_servers) or [self._issuer(admin)],
            "bearer_methods_supported": ["header"],
            "scopes_supported": [self._scope],
        }
        return JSONResponse(document, 200, HEADERS)


def _refused(refusal: Refusal) -> Response:
    headers = {name.decode(): value.decode() for name, value in refusal.headers}
    code, sentence = refusal.answer()
    return JSONResponse({"error": code, "error_description": sentence}, refusal.status, headers)
