"""Published keys (RFC 7517) read into the keys that may verify tokens. Pure."""

from collections.abc import Sequence
from typing import Any, cast

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from proxy.auth.tokens import MAX_KID, VerifyKey

MAX_KEYS = 64
MIN_RSA_BITS = 2048
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_PRIVATE = frozenset({"d", "p", "q", "k"})


class KeySetError(ValueError):
    """The document is not a usable key set."""


def parse_key_set(body: bytes) -> tuple[VerifyKey, ...]:
    """Read a JWK set. Keys that we cannot use are passed over; a set without a usable one is an error."""
    try:
        found = msgspec.json.decode(body, type=dict[str, Any])
    except (ValueError, RecursionError) as error:
        raise KeySetError("the key set is not a JSON object") from error
    listed: object = found.get("keys")
    items = cast("list[object]", listed) if isinstance(listed, list) else None
    if items is None or len(items) > MAX_KEYS:
        raise KeySetError(f"the key set has no list of at most {MAX_KEYS} keys")
    keys = tuple(key for key in map(parse_key, items) if key is not None)
    if not keys:
        raise KeySetError("the key set has no usable key")
    return keys


def parse_key(data: object) -> VerifyKey | None:
    """Read one public signature key; None for shared secrets, private keys, encryption keys and weak keys."""
    if not isinstance(data, dict):
        return None
    return _read_key(cast("dict[str, Any]", data))


def _read_key(data: dict[str, Any]) -> VerifyKey | None:
    if data.get("kty") not in ("RSA", "EC", "OKP") or not _PRIVATE.isdisjoint(data):
        return None
    operations, kid = data.get("key_ops", ["verify"]), data.get("kid")
    if data.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    if not (kid is None or (isinstance(kid, str) and 0 < len(kid) <= MAX_KID)):
        return None
    try:
        # `alg` is judged below, from what the key is: PyJWK would believe the word.
        material = PyJWK({name: value for name, value in data.items() if name != "alg"}).key
    except (PyJWTError, ValueError, TypeError, AttributeError, KeyError):
        return None
    algorithms = _algorithms_of(material, data.get("alg"))
    return VerifyKey(kid, algorithms, material) if algorithms else None


def _algorithms_of(material: object, declared: object) -> frozenset[str]:
    match material:
        case RSAPublicKey():
            able = _RSA if material.key_size >= MIN_RSA_BITS else frozenset[str]()
        case EllipticCurvePublicKey():
            able = frozenset(filter(None, [_CURVES.get(material.curve.name)]))
        case _:
            able = frozenset({"EdDSA"})
    if declared is None:
        return able
    # RFC 9864 names the curve where RFC 8037 says EdDSA.
    return able & {"EdDSA" if declared == "Ed25519" else str(declared)}


def candidates(keys: Sequence[VerifyKey], kid: str | None, algorithm: str) -> tuple[VerifyKey, ...]:
    """Return the keys that may have signed: those of that `kid`; without a `kid` the only one that fits."""
    fitting = tuple(key for key in keys if algorithm in key.algorithms and (kid is None or key.kid == kid))
    return fitting if kid is not None or len(fitting) == 1 else ()
