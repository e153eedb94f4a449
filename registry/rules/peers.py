"""Hooks and trusted proxies: complete, and speaking for servers that exist."""

from collections.abc import Iterator

from registry.problems import quoted
from registry.rules.base import Context, Finding
from registry.schema_problems import near
from registry.source import Pointer

OTHERS = "*"


def hook_without_target(context: Context) -> Iterator[Finding]:
    for index, hook in enumerate(context.fleet.hooks):
        if (hook.python is None) == (hook.url is None):
            which = "neither" if hook.python is None else "both"
            yield Finding(("hooks", index), f"a hook has `python` or `url`; {quoted(hook.name)} has {which}")


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
