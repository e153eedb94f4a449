"""A small OAuth 2.1 authorization server for tests: RFC 8414 metadata, RFC 7591 registration, PKCE, RFC 8707 resources, RFC 9207 iss.

It grants whatever scope is asked for, and issues ES256 access tokens whose audience is the `resource` of the request; a
request without `resource` gets none.
"""

import base64
import hashlib
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm


class AuthorizationServer:
    """Listens on an ephemeral loopback port while used as a context manager. `grants` holds (resource, scope) issued."""

    def __init__(self) -> None:
        self.grants: list[tuple[str, str]] = []
        self.jwks_fetches = 0
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._codes: dict[str, dict[str, str]] = {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base's name
                """Stay silent."""

            def _json(self, status: int, document: dict[str, Any]) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                if url.path == "/.well-known/oauth-authorization-server":
                    self._json(200, server.metadata())
                elif url.path == "/jwks":
                    server.jwks_fetches += 1
                    self._json(200, server.jwks())
                elif url.path == "/authorize":
                    self.send_response(302)
                    self.send_header("location", server.authorize(_single(url.query)))
                    self.send_header("content-length", "0")
                    self.end_headers()
                else:
                    self._json(404, {"error": "not_found"})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                if urlsplit(self.path).path == "/register":
                    self._json(201, {**json.loads(body), "client_id": f"client-{secrets.token_hex(4)}"})
                else:
                    self._json(*server.token(_single(body)))

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.issuer = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def metadata(self) -> dict[str, Any]:
        """RFC 8414."""
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "registration_endpoint": f"{self.issuer}/register",
            "jwks_uri": f"{self.issuer}/jwks",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code"],
            "token_endpoint_auth_methods_supported": ["none"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }

    def jwks(self) -> dict[str, Any]:
        """Return the public key."""
        key = json.loads(ECAlgorithm.to_jwk(self._key.public_key()))
        return {"keys": [{**key, "kid": "as-1", "use": "sig", "alg": "ES256"}]}

    def authorize(self, asked: dict[str, str]) -> str:
        """Grant at once; return where the browser goes."""
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state'], 'iss': self.issuer})}"

    def token(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Exchange a code once, if its PKCE proof and its resource fit."""
        asked = self._codes.pop(form.get("code", ""), None)
        proof = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if asked is None or base64.urlsafe_b64encode(proof).rstrip(b"=").decode() != asked["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        if not asked.get("resource") or form.get("resource") != asked["resource"]:
            return 400, {"error": "invalid_target"}
        self.grants.append((asked["resource"], asked.get("scope", "")))
        token = self.issue(asked["resource"], asked.get("scope", ""), asked["client_id"])
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": 600, "scope": asked.get("scope", "")}

    def issue(self, audience: str, scope: str, client: str = "client", **claims: object) -> str:
        """Sign an access token."""
        now = int(time.time())
        payload = {
            "iss": self.issuer,
            "aud": audience,
            "sub": "ada",
            "client_id": client,
            "scope": scope,
            "iat": now,
            "exp": now + 600,
            **claims,
        }
        return jwt.encode(payload, self._key, algorithm="ES256", headers={"kid": "as-1", "typ": "at+jwt"})


def _single(query: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(query).items()}
