"""Keys of trusted upstream proxies: shared HMAC secrets, or Ed25519 public keys of which we hold no private part."""

import hmac
import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal, assert_never

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from proxy.auth.keys import Secrets, parse_not_after
from registry.models import ProxyKey, TrustedProxy

Algorithm = Literal["hmac-sha256", "ed25519"]
SIGNATURE_BYTES: Mapping[Algorithm, int] = {"hmac-sha256": 32, "ed25519": 64}
MIN_SECRET_BYTES = 32
KID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class ProxyVerifyKey:
    """One key of one proxy."""

    proxy: str
    algorithm: Algorithm
    window_s: float
    verify: Callable[[bytes, bytes], bool] = field(repr=False)
    not_after: float | None = None

    def is_live(self, now: float) -> bool:
        """Whether the key may still be used."""
        return self.not_after is None or now < self.not_after


def hmac_verifier(secret: bytes) -> Callable[[bytes, bytes], bool]:
    """Return the check of an HMAC-SHA-256 signature, in constant time."""
    if len(secret) < MIN_SECRET_BYTES:
        raise ValueError(f"the secret has {len(secret)} bytes; it needs {MIN_SECRET_BYTES} or more")
    return lambda message, signature: hmac.compare_digest(hmac.digest(secret, message, sha256), signature)


def ed25519_verifier(public: bytes) -> Callable[[bytes, bytes], bool]:
    """Return the check of an Ed25519 signature."""
    key = Ed25519PublicKey.from_public_bytes(public)

    def verify(message: bytes, signature: bytes) -> bool:
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    return verify


def read_keys(proxies: Iterable[tuple[str, TrustedProxy]], secrets: Secrets) -> dict[str, ProxyVerifyKey]:
    """Return the keys of proxies by `kid`. Raises `ValueError` for one that is unusable or named twice."""
    found: dict[str, ProxyVerifyKey] = {}
    for name, proxy in proxies:
        for key in proxy.keys:
            if key.kid in found or not KID.fullmatch(key.kid):
                raise ValueError(f"trusted_proxies.{name}: kid {key.kid!r} is used twice or not plain")
            ends = parse_not_after(key.not_after)
            found[key.kid] = ProxyVerifyKey(name, key.algorithm, proxy.window_s, _verifier(name, key, secrets), ends)
    return found


def _verifier(proxy: str, key: ProxyKey, secrets: Secrets) -> Callable[[bytes, bytes], bool]:
    try:
        match key.algorithm:
            case "hmac-sha256":
                return hmac_verifier(secrets.reveal(key.secret or "").encode())
            case "ed25519":
                return ed25519_verifier(b64decode(key.public_key or "", validate=True))
            case _:
                assert_never(key.algorithm)
    except ValueError as error:
        raise ValueError(f"trusted_proxies.{proxy}: key {key.kid!r} is not usable: {error}") from None
