"""The Ed25519 key that signs checkpoints, and the public keys that check them."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from proxy.audit.errors import AuditStoreError

KEYS: Final = "audit"  # the folder in the state directory
SIGNING_KEY: Final = "audit-signing-key.pem"
PUBLIC_KEY: Final = "audit-signing-key.pub"


class Signer:
    """Signs with one key; the key never shows itself."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key()
        self.public_pem = self.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.key_id = key_id(self.public)

    @classmethod
    def from_pem(cls, pem: bytes) -> "Signer":
        """Read a PKCS #8 key; raise AuditStoreError for anything but Ed25519."""
        try:
            key = load_pem_private_key(pem, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise AuditStoreError("the audit signing key is not an unencrypted PEM private key") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise AuditStoreError("the audit signing key must be Ed25519: openssl genpkey -algorithm ed25519")
        return cls(key)

    def sign(self, statement: str) -> bytes:
        return self._private.sign(statement.encode())


class PublicKeys:
    """The keys that an auditor trusts, by id."""

    def __init__(self, keys: Iterable[Ed25519PublicKey] = ()) -> None:
        self._keys: Mapping[str, Ed25519PublicKey] = {key_id(key): key for key in keys}

    def __len__(self) -> int:
        return len(self._keys)

    @classmethod
    def read(cls, files: Iterable[Path]) -> "PublicKeys":
        """Read PEM files; raise AuditStoreError naming the one that is none."""
        return cls(_read_public(file) for file in files)

    def including(self, signer: Signer) -> "PublicKeys":
        """Return these keys and the signer's own."""
        return PublicKeys((*self._keys.values(), signer.public))

    def approve(self, key: str, statement: str, signature: bytes) -> bool:
        """Say whether the statement was signed with that trusted key."""
        trusted = self._keys.get(key)
        if trusted is None:
            return False
        try:
            trusted.verify(signature, statement.encode())
        except InvalidSignature:
            return False
        return True

    def knows(self, key: str) -> bool:
        return key in self._keys


def key_id(public: Ed25519PublicKey) -> str:
    """Return the first 16 hex digits of the SHA-256 over the 32 raw bytes of the key."""
    return hashlib.sha256(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def signer_in(folder: Path) -> Signer:
    """Return the signer whose key lies in a folder; make the key (0600) and its public half when there is none.

    Several workers may do so at once: all get the same key. The public half of another key, which signed before, is
    kept beside the new one under its id: what it signed can still be checked. Raises AuditStoreError.
    """
    path = folder / SIGNING_KEY
    if not path.exists():
        _put(path, Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    signer = Signer.from_pem(path.read_bytes())
    public = folder / PUBLIC_KEY
    if public.exists() and key_id(earlier := _read_public(public)) != signer.key_id:
        kept = folder / f"{public.stem}-{key_id(earlier)}{public.suffix}"
        _put(kept, earlier.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644)
        _put(public, signer.public_pem, 0o644, replaces=True)
    elif not public.exists():
        _put(public, signer.public_pem, 0o644)
    return signer


def public_keys_in(folder: Path) -> list[Path]:
    """Return the public keys of a folder: of the key that signs now, and of those before."""
    return sorted(folder.glob(f"{Path(PUBLIC_KEY).stem}*.pub"))


def _put(path: Path, content: bytes, mode: int, *, replaces: bool = False) -> None:
    """Write a file whole; unless `replaces`, what another process has put there stays."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        if replaces:
            partial.replace(path)
        else:
            with suppress(FileExistsError):
                path.hardlink_to(partial)
    finally:
        partial.unlink(missing_ok=True)


def _read_public(file: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(file.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise AuditStoreError(f"{file} is not a PEM public key: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise AuditStoreError(f"{file} is not an Ed25519 key")
    return key
