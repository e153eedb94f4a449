"""Hooks and trusted proxies: complete, and speaking for servers that exist."""

import re
from base64 import b64decode
from collections.abc import Iterator

from registry.problems import quoted, quoted_path
from registry.rules.base import Context, Finding, placed, repeated
from registry.schema_problems import near
from registry.secrets import Secret
from registry.source import Pointer

OTHERS = "*"
HOOK_SECRET_BYTES = 16
WHSEC = b"whsec_"
ED25519_BYTES = 32
KID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def hook_without_target(context: Context) -> Iterator[Finding]:
    for index, hook in enumerate(context.fleet.hooks):
        if (hook.python is None) == (hook.url is None):
            which = "neither" if hook.python is None else "both"
            yield Finding(("hooks", index), f"a hook has `python` or `url`; {quoted(hook.name)} has {which}")


def hook_malformed(context: Context) -> Iterator[Finding]:
    for index, hook in enumerate(context.fleet.hooks):
        if hook.python is not None:
            module, _, attribute = hook.python.rpartition(":")
            if not (module and attribute.isidentifier()):
                yield Finding(
                    ("hooks", index, "python"), f"{quoted(hook.python)} names no callable of a module or file"
                )


def hook_file_missing(context: Context) -> Iterator[Finding]:
    for index, hook in enumerate(context.fleet.hooks):
        file = (hook.python or "").rpartition(":")[0]
        if file.endswith(".py") and not (context.base / file).is_file():
            yield Finding(("hooks", index, "python"), f"there is no file {quoted_path(file)} beside the registry")


def hook_without_secret(context: Context) -> Iterator[Finding]:
    for index, hook in enumerate(context.fleet.hooks):
        if hook.url is not None and hook.secret is None:
            message = f"webhook {quoted(hook.name)} has no secret with which its events are signed"
            yield Finding(("hooks", index, "secret"), message)


def hook_secret_unusable(context: Context) -> Iterator[Finding]:
    for index, hook in enumerate(context.fleet.hooks):
        secret = context.secret(hook.secret) if hook.secret is not None else None
        if not isinstance(secret, Secret):
            continue
        pointer: Pointer = ("hooks", index, "secret")
        if secret.size_bytes < HOOK_SECRET_BYTES:
            yield Finding(pointer, f"the secret has {secret.size_bytes} bytes; {HOOK_SECRET_BYTES} or more are needed")
        elif not _is_base64_if_it_says_so(secret.reveal()):
            yield Finding(pointer, "after `whsec_` comes no base64", "write it as its receiver gave it to you")


def _is_base64_if_it_says_so(secret: bytes) -> bool:
    return not secret.startswith(WHSEC) or _base64(secret.removeprefix(WHSEC)) is not None


def _base64(text: str | bytes) -> bytes | None:
    try:
        return b64decode(text, validate=True)
    except ValueError:  # also where a text is not ASCII
        return None


def hook_server_unknown(context: Context) -> Iterator[Finding]:
    for index, hook in enumerate(context.fleet.hooks):
        yield from _unknown(context, ("hooks", index, "servers"), hook.servers)


def proxy_server_unknown(context: Context) -> Iterator[Finding]:
    for name, proxy in context.fleet.trusted_proxies.items():
        yield from _unknown(context, ("trusted_proxies", name, "servers"), proxy.servers)


def _unknown(context: Context, pointer: Pointer, names: tuple[str, ...]) -> Iterator[Finding]:
    servers = context.layout.declared.get("servers")
    known = servers if isinstance(servers, dict) else {}
    for index, name in enumerate(names):
        if name != OTHERS and name not in known:
            yield Finding((*pointer, index), f"there is no server {quoted(name)}", near(name, known))


def proxy_without_keys(context: Context) -> Iterator[Finding]:
    for name, proxy in context.fleet.trusted_proxies.items():
        pointer: Pointer = ("trusted_proxies", name)
        if proxy.scheme == "jwt" and proxy.assertion is None:
            yield Finding((*pointer, "assertion"), "scheme jwt needs an `assertion`")
        if proxy.scheme != "jwt" and not proxy.keys:
            yield Finding((*pointer, "keys"), f"scheme {proxy.scheme} needs `keys`: without them nothing is verified")
        for index, key in enumerate(proxy.keys):
            needed = "secret" if key.algorithm == "hmac-sha256" else "public_key"
            if getattr(key, needed) is None:
                yield Finding((*pointer, "keys", index), f"{key.algorithm} needs `{needed}`")
            elif needed == "public_key" and len(_base64(key.public_key or "") or b"") != ED25519_BYTES:
                message = f"an Ed25519 public key is {ED25519_BYTES} bytes in base64"
                yield Finding((*pointer, "keys", index, "public_key"), message)


def proxy_key_id(context: Context) -> Iterator[Finding]:
    """A signature names its key, and the key says whose it is: so its id is one proxy's only, and plain."""
    ids: list[tuple[object, Pointer]] = []
    for name, proxy in context.fleet.trusted_proxies.items():
        for index, key in enumerate(proxy.keys):
            pointer: Pointer = ("trusted_proxies", name, "keys", index, "kid")
            ids.append(((proxy.scheme, key.kid), pointer))
            if not KID.fullmatch(key.kid):
                hint = "letters, digits, dots, underscores and hyphens"
                yield Finding(pointer, f"{quoted(key.kid)} cannot be the id of a key", hint)
    for later, first in repeated(ids):
        yield Finding(later, f"{placed(context, first)} has a key of this id", related=(first,))
