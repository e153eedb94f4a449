"""HTTP Message Signatures (RFC 9421), the small profile that we take: strict, one signature, fixed coverage. Pure.

    Signature-Input: LABEL=("@method" "@path" "@query" "content-digest" "x-user-id" "x-user-permissions")
                     ;created=N;keyid="…";alg="hmac-sha256|ed25519";nonce="…";tag="AUDIENCE"
    Signature:       LABEL=:BASE64:
    Content-Digest:  sha-256=:BASE64:                                                   (RFC 9530, of the body)

Components and parameters may come in any order; each of them once, and no other.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

COMPONENTS = ("@method", "@path", "@query", "content-digest", "x-user-id", "x-user-permissions")
_LABEL = r"([a-z*][a-z0-9_.*-]{0,63})"
_INPUT = re.compile(
    _LABEL + r'=(\(((?:"[a-z0-9@-]+"(?: "[a-z0-9@-]+")*)?)\)'
    r'((?:;[a-z]+=(?:[0-9]{1,12}|"[\x20\x21\x23-\x5b\x5d-\x7e]{0,512}"))*))'
)
_PARAMETER = re.compile(r';([a-z]+)=(?:([0-9]{1,12})|"([^"]*)")')
_SIGNATURE = re.compile(_LABEL + r"=:([A-Za-z0-9+/]{0,172}={0,2}):")
_PARAMETERS = frozenset({"created", "keyid", "alg", "nonce", "tag"})
_NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}")


@dataclass(frozen=True, slots=True)
class SignatureInput:
    """What a signature says about itself. `inner` is the serialised list with its parameters, as it was sent."""

    inner: str
    components: tuple[str, ...]
    created: int
    keyid: str
    algorithm: str
    nonce: str
    tag: str
    signature: bytes


def parse_signature(signature_input: bytes, signature: bytes) -> SignatureInput | None:
    """Read the two headers; None if they are not one signature of the profile."""
    try:
        said, made = _INPUT.fullmatch(signature_input.decode("ascii")), _SIGNATURE.fullmatch(signature.decode("ascii"))
    except UnicodeDecodeError:
        return None
    if said is None or made is None or said[1] != made[1]:
        return None
    components = tuple(name.strip('"') for name in said[3].split(" "))
    parameters = _parameters(said[4])
    if parameters is None or sorted(components) != sorted(COMPONENTS):
        return None
    return _read(said[2], components, parameters, made[2])


def _parameters(text: str) -> dict[str, int | str] | None:
    found = _PARAMETER.findall(text)
    named: dict[str, int | str] = {name: int(number) if number else value for name, number, value in found}
    return named if len(named) == len(found) and named.keys() == _PARAMETERS else None


def _read(
    inner: str, components: tuple[str, ...], parameters: Mapping[str, int | str], encoded: str
) -> SignatureInput | None:
    created, nonce = parameters["created"], parameters["nonce"]
    texts = [parameters[name] for name in ("keyid", "alg", "nonce", "tag")]
    if not isinstance(created, int) or not all(isinstance(text, str) for text in texts):
        return None
    if _NONCE.fullmatch(str(nonce)) is None:
        return None
    try:
        signature = b64decode(encoded, validate=True)
    except (Base64Error, ValueError):
        return None
    keyid, algorithm, nonce, tag = (str(text) for text in texts)
    return SignatureInput(inner, components, created, keyid, algorithm, nonce, tag, signature)


def signature_base(components: Sequence[str], values: Mapping[str, str], inner: str) -> bytes:
    """Return the bytes to sign (RFC 9421 §2.5). Raises `ValueError` if a value could pass for another line."""
    if not all(values[name].isprintable() for name in components) or not inner.isprintable():
        raise ValueError("a component holds a control character")
    lines = [f'"{name}": {values[name]}' for name in components]
    return "\n".join([*lines, f'"@signature-params": {inner}']).encode()


def content_digest(body: bytes) -> str:
    """Return the value of Content-Digest."""
    return f"sha-256=:{b64encode(sha256(body).digest()).decode()}:"
