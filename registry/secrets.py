"""References → secrets (SPEC R8). A secret is shown as `**********` everywhere but where it is used.

SecretError                 code, what is wrong, and a hint that says what to do; never any part of a secret
├── BadReferenceError       SECRET-REFERENCE   it is not `env:NAME`, `file:PATH` or `store:NAME`
├── UnresolvedSecretError   SECRET-UNRESOLVED  what it names is not there, or is empty
├── ExposedSecretError      SECRET-FILE-MODE   others on this machine can read the file
├── LiteralSecretError      SECRET-LITERAL     a value stands in the registry outside dev mode
└── SecretStoreError        SECRET-STORE       the local store cannot be opened (registry/secret_store.py)
"""

import hmac
import os
import re
import stat
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import ClassVar, Literal, NoReturn, Protocol, cast

from registry.models import Variable
from registry.problems import MASK, quoted, quoted_path

MAX_SECRET_BYTES = 65_536
SHARED_FILES = "POSTERN_SHARED_SECRET_FILES"
Kind = Literal["env", "file", "store"]
_REFERENCE = re.compile(r"(env|file|store):(.*)", re.DOTALL)
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STORE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class SecretError(Exception):
    """A reference does not lead to a secret."""

    code: ClassVar[str] = "SECRET-UNRESOLVED"

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}")
        self.message = message
        self.hint = hint


class BadReferenceError(SecretError):
    code = "SECRET-REFERENCE"


class UnresolvedSecretError(SecretError):
    code = "SECRET-UNRESOLVED"


class ExposedSecretError(SecretError):
    code = "SECRET-FILE-MODE"


class LiteralSecretError(SecretError):
    code = "SECRET-LITERAL"


class SecretStoreError(SecretError):
    code = "SECRET-STORE"


class Secret:
    """Bytes that do not show themselves: not in repr, str, format, pickles or tracebacks' locals."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        return self._value

    def text(self) -> str:
        """Return the secret as text; raises `UnresolvedSecretError` if it is not UTF-8."""
        try:
            return self._value.decode()
        except UnicodeDecodeError:
            pass  # raised outside, because the original exception carries the bytes
        raise UnresolvedSecretError("the secret is not UTF-8 text", "encode it, for example as base64")

    @property
    def size_bytes(self) -> int:
        return len(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    __hash__ = None  # pyright: ignore[reportAssignmentType]  # a hash table would compare in variable time

    def __repr__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


class SecretStore(Protocol):
    """Where `store:` references lead; raises `SecretError`."""

    def get(self, name: str) -> Secret: ...


def split_reference(text: str) -> tuple[Kind, str] | None:
    """Return kind and target of a reference, or None for a literal; raises `BadReferenceError`."""
    match = _REFERENCE.fullmatch(text)
    if not match:
        return None
    kind, target = cast("Kind", match[1]), match[2]
    well_formed = {
        "env": _VARIABLE_NAME.fullmatch(target),
        "file": target and "\0" not in target,
        "store": _STORE_NAME.fullmatch(target),
    }
    if not well_formed[kind]:
        hint = "write env:NAME, file:/path or store:name"
        raise BadReferenceError(f"{quoted(text)} is not a complete reference", hint)
    return kind, target


def resolve(
    reference: str,
    *,
    base: Path,
    environ: Mapping[str, str],
    store: SecretStore | None = None,
    allow_literal: bool = False,
) -> Secret:
    """Return what a reference leads to; raises `SecretError`.

    `base` is where a relative `file:` starts, and whose `.postern/` holds the local store unless `store` is given.
    Whatever is not a reference is a literal, and taken only with `allow_literal` (dev mode).
    """
    found = split_reference(reference)
    if found is None:
        return _literal(reference, allowed=allow_literal)
    kind, target = found
    if kind == "env":
        return _from_environment(target, environ)
    if kind == "file":
        return _from_file(base / target, shared_allowed=environ.get(SHARED_FILES) == "1")
    return (store or LocalStore(base, environ)).get(target)


def resolve_variable(
    name: str,
    variable: Variable,
    *,
    base: Path,
    environ: Mapping[str, str],
    store: SecretStore | None = None,
    allow_literal: bool = False,
) -> Secret | None:
    """Return the value of a declared variable, None if it has none and needs none; raises `SecretError`.

    Without a value of its own it is the variable of that name in `environ`. A literal is fine unless it is `secret`,
    and may be empty; an empty secret is none.
    """
    literal = allow_literal or not variable.secret
    if not variable.secret and variable.value == "":
        return Secret(b"")
    reference = f"env:{name}" if variable.value is None else variable.value
    try:
        return resolve(reference, base=base, environ=environ, store=store, allow_literal=literal)
    except UnresolvedSecretError:
        if variable.required:
            raise
        return None


class SecretReader:
    """Resolves references for one registry file, after the gate has judged which literals are allowed."""

    def __init__(self, base: Path, environ: Mapping[str, str], store: SecretStore | None = None) -> None:
        self._base = base
        self._environ = environ
        self._store = store or LocalStore(base, environ)

    def secret(self, reference: str) -> Secret:
        """Return what a reference leads to; raises `SecretError`."""
        return resolve(reference, base=self._base, environ=self._environ, store=self._store, allow_literal=True)

    def reveal(self, reference: str) -> str:
        """Return the secret itself, as text; raises `SecretError`."""
        return self.secret(reference).text()


class LocalStore:
    """The encrypted store of one registry, opened once, by the first reference that leads there.

    Its module (and `cryptography`) loads only then, and its key is looked up once, however many secrets it holds.
    """

    def __init__(self, base: Path, environ: Mapping[str, str]) -> None:
        self._base = base
        self._environ = environ
        self._opened: SecretStore | None = None

    def get(self, name: str) -> Secret:
        """Return one secret; raises `SecretError`."""
        if self._opened is None:
            module = import_module("registry.secret_store")
            self._opened = cast("SecretStore", module.EncryptedStore.beside(self._base, self._environ))
        return self._opened.get(name)


def _literal(text: str, *, allowed: bool) -> Secret:
    if not text:
        raise UnresolvedSecretError("the value is empty", "give it a value")
    if not allowed:
        hint = "put it in the environment, a file or `postern secret set`, and write env:, file: or store: here"
        raise LiteralSecretError("a secret is written in the file", hint)
    return Secret(text.encode("utf-8", "surrogatepass"))


def _from_environment(name: str, environ: Mapping[str, str]) -> Secret:
    value = environ.get(name)
    if not value:
        state = "is not set" if value is None else "is empty"
        raise UnresolvedSecretError(f"environment variable {name} {state}", f"set {name} where Postern starts")
    return Secret(os.fsencode(value))


def _from_file(path: Path, *, shared_allowed: bool) -> Secret:
    try:
        content, mode = read_private(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnresolvedSecretError(f"cannot read {quoted_path(path)}: {reason}", "create it, mode 0600") from None
    if mode & 0o077 and not shared_allowed:
        raise ExposedSecretError(
            f"{quoted_path(path)} has mode {mode:04o}: group or others may use it",
            f"chmod 600 it, or set {SHARED_FILES}=1 where mounts cannot do that",
        )
    value = content.removesuffix(b"\n").removesuffix(b"\r")
    if not value or len(content) > MAX_SECRET_BYTES:
        reason = "is empty" if not value else f"has more than {MAX_SECRET_BYTES:,} bytes"
        raise UnresolvedSecretError(f"{quoted_path(path)} {reason}", "put one secret in it")
    return Secret(value)


def read_private(path: Path) -> tuple[bytes, int]:
    """Return content (at most one byte over the limit) and permission bits of a regular file; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not a regular file")
        return file.read(MAX_SECRET_BYTES + 1), stat.S_IMODE(status.st_mode)
