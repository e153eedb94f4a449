"""A real OAuth flow: the official client finds the metadata, gets a token for this server alone, calls, and steps up."""

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from mcp.client.auth import OAuthClientProvider
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from pydantic import AnyUrl

from tests.fakes.authorization_server import AuthorizationServer
from tests.fakes.recorder import Recorder
from tests.sidecar import MODERN, Sidecar


class Memory:
    """The client's token storage."""

    tokens: OAuthToken | None = None
    client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


class Browser:
    """Follows the authorization redirect the way a person's browser would, as far as the client's callback."""

    def __init__(self) -> None:
        self.visits: list[str] = []
        self._landed: dict[str, list[str]] = {}

    async def visit(self, url: str) -> None:
        self.visits.append(url)
        async with httpx2.AsyncClient(trust_env=False, follow_redirects=False) as http:
            response = await http.get(url)
        self._landed = parse_qs(urlsplit(response.headers["location"]).query)

    async def callback(self) -> AuthorizationCodeResult:
        return AuthorizationCodeResult(**{name: values[0] for name, values in self._landed.items()})


@pytest.fixture
def authorization_server() -> Iterator[AuthorizationServer]:
    with AuthorizationServer() as server:
        yield server


@pytest.fixture
def sidecar(tmp_path, database, authorization_server) -> Iterator[Sidecar]:
    with Recorder() as recorder:
        oauth = {
            "issuer": authorization_server.issuer,
            "authorization_servers": [authorization_server.issuer],
            "algorithms": ["ES256"],
            "jwks": {"url": f"{authorization_server.issuer}/jwks", "allow_private": True},
            "scopes": ["a:use"],
        }
        server = {
            "type": "external",
            "endpoint": f"http://127.0.0.1:{recorder.port}/mcp",
            "oauth": oauth,
            "tools": {"echo": {}, "write": {"scopes": ["a:write"]}},
        }
        other = {**server, "oauth": {**oauth, "scopes": ["b:use"]}, "tools": {"echo": {}}}
        sidecar = Sidecar(tmp_path / "s", database.dsn("postern_proxy"), {"a": server, "b": other})
        try:
            sidecar.start_proxy()
            yield sidecar
        finally:
            sidecar.stop()


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["legacy", MODERN])
async def test_official_client_discovers_authorizes_calls_and_steps_up(sidecar, authorization_server, mode) -> None:
    """One token for this server's URL; the second tool makes the client ask for the union of scopes, once."""
    url = f"{sidecar.url}/a/mcp"
    browser, memory = Browser(), Memory()
    provider = OAuthClientProvider(
        server_url=url,
        client_metadata=OAuthClientMetadata(
            client_name="test",
            redirect_uris=[AnyUrl("http://127.0.0.1:1/callback")],
            grant_types=["authorization_code"],
            response_types=["code"],
            token_endpoint_auth_method="none",
        ),
        storage=memory,
        redirect_handler=browser.visit,
        callback_handler=browser.callback,
    )
    async with (
        httpx2.AsyncClient(auth=provider, trust_env=False, timeout=30) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        assert not (await client.call_tool("echo", {"text": "hi"})).is_error
        assert authorization_server.grants == [(url, "a:use")]
        assert not (await client.call_tool("write", {"text": "hi"})).is_error
    assert len(authorization_server.grants) == 2
    resource, scope = authorization_server.grants[1]
    assert resource == url
    assert set(scope.split()) == {"a:use", "a:write"}
    assert len(browser.visits) == 2
    assert memory.tokens is not None
    refused = sidecar.call("b", "echo", {}, memory.tokens.access_token)
    assert refused.status == 401, "the stolen token opens one server"


def test_keys_are_fetched_once_for_many_tokens(sidecar, authorization_server) -> None:
    """Single flight and cache: fifty tokens, one fetch of the issuer's keys."""
    url = f"{sidecar.url}/a/mcp"
    for number in range(50):
        token = authorization_server.issue(url, "a:use", jti=str(number))
        assert sidecar.call("a", "echo", {}, token).status == 200
    assert authorization_server.jwks_fetches == 1


def test_unknown_key_id_does_not_hammer_the_issuer(sidecar, authorization_server) -> None:
    """A token with a made-up kid makes at most one further fetch within the cool-down."""
    import jwt
    from cryptography.hazmat.primitives.asymmetric import ec

    assert sidecar.call("a", "echo", {}, authorization_server.issue(f"{sidecar.url}/a/mcp", "a:use")).status == 200
    stranger = ec.generate_private_key(ec.SECP256R1())
    for number in range(20):
        claims = {"iss": authorization_server.issuer, "aud": f"{sidecar.url}/a/mcp", "sub": "eve", "exp": 4_000_000_000}
        token = jwt.encode(claims, stranger, algorithm="ES256", headers={"kid": f"made-up-{number}"})
        assert sidecar.call("a", "echo", {}, token).status in {401, 429}
    assert authorization_server.jwks_fetches <= 2
