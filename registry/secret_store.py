"""The encrypted local store: one file of secrets, each sealed with AES-256-GCM under its own name.

The key comes from POSTERN_STORE_KEY (32 bytes, base64url) or, where the `keyring` package is installed, from the
operating system's keyring. The name is authenticated with the value, so entries cannot change places.
"""

import base64
import binascii
import fcntl
import json
import os
import re
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Self, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from registry.problems import quoted, quoted_path
from registry.secrets import ExposedSecretError, Secret, SecretStoreError, UnresolvedSecretError

STORE_KEY = "POSTERN_STORE_KEY"
STORE_FILE = "POSTERN_STORE"
MAX_STORE_BYTES = 16_777_216
_KEY_BYTES = 32
_NONCE_BYTES = 12
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
Sealed = dict[str, str]


class EncryptedStore:
    """Named secrets in one file, which several processes may share: every call sees what the last one wrote.

    The file is parsed again only when it has changed, so that the secrets of a large fleet cost one reading.
    """

    def __init__(self, path: Path, key: Secret) -> None:
        self.path = path
        self._cipher = AESGCM(key.reveal())
        self._known: tuple[tuple[int, ...], dict[str, Sealed]] | None = None

    @classmethod
    def beside(cls, base: Path, environ: Mapping[str, str]) -> Self:
        """Open the store named by POSTERN_STORE, or `.postern/secrets.json` below `base`."""
        return cls(store_path(base, environ), store_key(environ))

    def get(self, name: str) -> Secret:
        """Return one secret; raises `SecretError`."""
        entry = self._read().get(name)
        if entry is None:
            raise UnresolvedSecretError(f"the store has no secret {quoted(name)}", f"postern secret set {name}")
        try:
            nonce, sealed = base64.b64decode(entry["nonce"]), base64.b64decode(entry["sealed"])
            return Secret(self._cipher.decrypt(nonce, sealed, _context(name)))
        except (InvalidTag, ValueError, KeyError, TypeError):
            hint = f"check {STORE_KEY}, or set it again: postern secret set {name}"
            raise SecretStoreError(f"secret {quoted(name)} does not open with this key", hint) from None

    def put(self, name: str, secret: Secret, *, now: datetime) -> None:
        """Seal a secret under a name, replacing what was there; durable when it returns."""
        if not _NAME.fullmatch(name):
            raise SecretStoreError(f"{quoted(name)} is not a name", "letters, digits, dots, hyphens, underscores")
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, secret.reveal(), _context(name))
        with self._changing() as entries:
            entries[name] = {"nonce": _encode(nonce), "sealed": _encode(sealed), "set_at": now.isoformat()}

    def remove(self, name: str) -> bool:
        """Forget a secret; says whether there was one."""
        with self._changing() as entries:
            return entries.pop(name, None) is not None

    def names(self) -> dict[str, str]:
        """Return the names of all secrets, sorted, each with the time when it was set."""
        return {name: str(entry.get("set_at", "")) for name, entry in sorted(self._read().items())}

    def _read(self) -> dict[str, Sealed]:
        try:
            status = self.path.stat()
            stamp = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
            if self._known and self._known[0] == stamp:  # a change of the mode is a change of the stamp, too
                return self._known[1]
            text = self.path.read_bytes() if status.st_size <= MAX_STORE_BYTES else b""
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise SecretStoreError(f"cannot read {quoted_path(self.path)}: {error.strerror}", "check it") from None
        if status.st_mode & 0o077:
            raise ExposedSecretError(f"{quoted_path(self.path)} is open to group or others", "chmod 600 it")
        entries = _entries(text, self.path)
        self._known = (stamp, entries)
        return entries

    @contextmanager
    def _changing(self) -> Generator[dict[str, Sealed]]:
        """Read, let the caller change, write: under a lock, and atomically for readers."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self.path.with_name(self.path.name + ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                entries = dict(self._read())
                yield entries
                _replace(self.path, json.dumps({"version": 1, "secrets": entries}, indent=1, sort_keys=True))
        except OSError as error:
            reason = error.strerror or str(error)
            raise SecretStoreError(f"cannot write {quoted_path(self.path)}: {reason}", "check the directory") from None


def store_path(base: Path, environ: Mapping[str, str]) -> Path:
    return base / environ.get(STORE_FILE, ".postern/secrets.json")


def store_key(environ: Mapping[str, str]) -> Secret:
    """Return the key of the store; raises `SecretStoreError` where there is none."""
    text = environ.get(STORE_KEY) or _from_keyring()
    if not text:
        hint = f"make one with `postern secret key` and set {STORE_KEY} where Postern starts"
        raise SecretStoreError("the secret store has no key", hint)
    try:
        key = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != _KEY_BYTES:
        raise SecretStoreError(f"{STORE_KEY} is not 32 bytes in base64url", "make one with `postern secret key`")
    return Secret(key)


def new_key() -> str:
    """Return a fresh key in the form that POSTERN_STORE_KEY takes."""
    return base64.urlsafe_b64encode(os.urandom(_KEY_BYTES)).decode().rstrip("=")


def _from_keyring() -> str | None:
    if find_spec("keyring") is None:
        return None
    keyring = import_module("keyring")
    try:
        return cast("str | None", keyring.get_password("postern", "store-key"))
    except keyring.errors.KeyringError:
        return None


def _entries(text: bytes, path: Path) -> dict[str, Sealed]:
    try:
        document = json.loads(text)
        entries = document["secrets"]
        if document["version"] == 1 and all(isinstance(entry, dict) for entry in entries.values()):
            return cast("dict[str, Sealed]", entries)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise SecretStoreError(f"{quoted_path(path)} is not a secret store", "restore it, or move it away and set anew")


def _replace(path: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mkstemp gives mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _context(name: str) -> bytes:
    return b"postern secret v1\0" + name.encode()


def _encode(value: bytes) -> str:
    return base64.b64encode(value).decode()
