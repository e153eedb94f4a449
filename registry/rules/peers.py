"""Hooks and trusted proxies: complete, and speaking for servers that exist."""

from collections.abc import Iterator

from registry.problems import quoted
from registry.rules.base import Context, Finding
from registry.schema_problems import near
from registry.secrets import Secret
from registry.source import Pointer

OTHERS = "*"
HOOK_SECRET_BYTES = 16


def hook_without_target(context: Context) -> Iterator[Finding]:
    for index, hook in enumerate(context.fleet.hooks):
        if (hook.python is None) == (hook.url is None):
            which = "neither" if hook.python is None else "both"
            yield Finding(("hooks", index), f"a hook has `python` or `url`; {quoted(hook.name)} has {which}")


def hook_without_secret(context: Context) -> Iterator[Finding]:
    for index, hook in enumerate(context.fleet.hooks):
        if hook.url is not None and hook.secret is None:
            message = f"webhook {quoted(hook.name)} has no secret with which its events are signed"
            yield Finding(("hooks", index, "secret"), message)


def hook_with_short_secret(context: Context) -> Iterator[Finding]:
    for index, hook in enumerate(context.fleet.hooks):
        secret = context.secret(hook.secret) if hook.secret is not None else None
        if isinstance(secret, Secret) and secret.size_bytes < HOOK_SECRET_BYTES:
            message = f"the secret has {secret.size_bytes} bytes; {HOOK_SECRET_BYTES} or more are needed"
            yield Finding(("hooks", index, "secret"), message)


def hook_malformed(context: Context) -> Iterator[Finding]:
    for index, hook in enumerate(context.fleet.hooks):
        module, colon, attribute = (hook.python or "a:b").rpartition(":")
        if not (module and colon and attribute.isidentifier()):
            yield Finding(("hooks", index, "python"), f"{quoted(hook.python)} names no callable of a module or file")


def hook_file_missing(context: Context) -> Iterator[Finding]:
    for index, hook in enumerate(context.fleet.hooks):
        file = (hook.python or "").rpartition(":")[0]
        if file.endswith(".py") and not (context.base / file).is_file():
            yield Finding(("hooks", index, "python"), f"there is no file {quoted(file)} beside the registry")


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
