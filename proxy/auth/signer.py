"""Sign requests as a trusted upstream proxy does: the Python helper, and what `postern sign` uses.

    signer = Signer.hmac("sso-1", secret)
    request = Outgoing("POST", "/notes/mcp", audience, "alice", ("notes:read",), body)
    headers = signer.postern(request, time(), new_nonce())

Send exactly `body` to exactly that path, once: a retry needs a new signature.
"""

import hmac
import secrets
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from proxy.auth.http_signature import COMPONENTS, content_digest, signature_base
from proxy.auth.proxy_keys import KID, MIN_SECRET_BYTES, Algorithm
from proxy.auth.rfc9421_scheme import request_values
from proxy.auth.signature import Mark, Signed


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request on its way to Postern. `target` is the path, with a query if there is one, as Postern will see it."""

    method: str
    target: str
    audience: str
    user: str
    permissions: tuple[str, ...]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Signer:
    """One key of one trusted proxy."""

    kid: str
    algorithm: Algorithm
    sign: Callable[[bytes], bytes] = field(repr=False)

    def __post_init__(self) -> None:
        if not KID.fullmatch(self.kid):
            raise ValueError(f"kid {self.kid!r} is not plain: letters, digits, '.', '_' and '-'")

    @classmethod
    def hmac(cls, kid: str, secret: bytes) -> "Signer":
        """Return a signer with a shared secret of 32 bytes or more."""
        if len(secret) < MIN_SECRET_BYTES:
            raise ValueError(f"the secret has {len(secret)} bytes; it needs {MIN_SECRET_BYTES} or more")
        return cls(kid, "hmac-sha256", lambda message: hmac.digest(secret, message, sha256))

    @classmethod
    def ed25519(cls, kid: str, pem: bytes) -> "Signer":
        """Return a signer with an Ed25519 private key (PEM, PKCS #8)."""
        key = load_pem_private_key(pem, None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("the key is not an Ed25519 private key")  # noqa: TRY004 -- a wrong file, not a wrong call
        return cls(kid, "ed25519", key.sign)

    def postern(self, request: Outgoing, now: float, nonce: str) -> dict[str, str]:
        """Return the identity headers with `x-proxy-verified`. Raises `ValueError` for what cannot be signed."""
        permissions = " ".join(request.permissions)
        signed = Signed(
            kid=self.kid,
            algorithm=self.algorithm,
            timestamp=int(now),
            nonce=nonce,
            method=request.method,
            target=request.target,
            audience=request.audience,
            user=request.user,
            permissions=permissions,
            body=request.body,
        )
        mark = Mark(self.kid, int(now), nonce, self.sign(signed.canonical()))
        return {"x-user-id": request.user, "x-user-permissions": permissions, "x-proxy-verified": mark.header()}

    def rfc9421(self, request: Outgoing, now: float, nonce: str) -> dict[str, str]:
        """Return the identity headers with an HTTP message signature. Raises `ValueError` like `postern`."""
        permissions = " ".join(request.permissions)
        digest = content_digest(request.body)
        path, _, query = request.target.partition("?")
        if not {'"', "\\"}.isdisjoint(request.audience):
            raise ValueError("the audience cannot stand in a quoted string")
        listed = " ".join(f'"{name}"' for name in COMPONENTS)
        inner = (
            f'({listed});created={int(now)};keyid="{self.kid}";alg="{self.algorithm}";nonce="{nonce}"'
            f';tag="{request.audience}"'
        )
        values = request_values(request.method, path, query, digest, (request.user, permissions))
        signature = b64encode(self.sign(signature_base(COMPONENTS, values, inner))).decode()
        return {
            "x-user-id": request.user,
            "x-user-permissions": permissions,
            "content-digest": digest,
            "signature-input": f"postern={inner}",
            "signature": f"postern=:{signature}:",
        }


def new_nonce() -> str:
    """Return 128 random bits as a signature names them."""
    return secrets.token_urlsafe(16)
