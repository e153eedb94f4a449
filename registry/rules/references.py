"""Secrets and variables: written as references, and leading somewhere."""

import re
from collections.abc import Callable, Iterable, Iterator

from registry.models import OAuth, Server, Variable
from registry.problems import quoted
from registry.rules.base import Context, Finding, at
from registry.secrets import BadReferenceError, Secret, SecretError, split_reference
from registry.source import Pointer

_NAMED_SECRET = re.compile(
    r"(?i)(?:secret|passw(?:or)?d|passphrase|token|(?:api|access|secret|private)_?key|credentials?)$"
)


def _oauth_secrets(pointer: Pointer, oauth: OAuth) -> Iterator[tuple[Pointer, str]]:
    for index, key in enumerate(oauth.keys):
        yield (*pointer, "keys", index, "secret"), key.secret


def _server_secrets(server: Server) -> Iterator[tuple[Pointer, str]]:
    yield from _oauth_secrets(at(server, "oauth"), server.oauth)
    for index, header in enumerate(server.headers):
        yield at(server, "headers", index, "value"), header.value
    for index, table in enumerate(server.tables):
        if table.database is not None:
            yield at(server, "tables", index, "database"), table.database


def _secrets(context: Context, servers: Iterable[Server]) -> Iterator[tuple[Pointer, str]]:
    """Every value that must be a secret, but for variables."""
    fleet = context.fleet
    for server in servers:
        yield from _server_secrets(server)
    if fleet.proxy.admin:
        yield from _oauth_secrets(("proxy", "admin"), fleet.proxy.admin)
    for name, proxy in fleet.trusted_proxies.items():
        for index, key in enumerate(proxy.keys):
            if key.secret is not None:
                yield ("trusted_proxies", name, "keys", index, "secret"), key.secret
    for index, hook in enumerate(fleet.hooks):
        if hook.secret is not None:
            yield ("hooks", index, "secret"), hook.secret


def _variables(context: Context, servers: Iterable[Server]) -> Iterator[tuple[Pointer, str, Variable]]:
    for server in servers:
        for name, variable in server.env.items():
            yield at(server, "env", name), name, variable
    for agent in context.fleet.agents.values():
        for name, variable in agent.variables.items():
            yield ("agents", agent.name, "variables", name), name, variable


def malformed(context: Context) -> Iterator[Finding]:
    servers = tuple(context.fleet.servers.values())
    written = [*_secrets(context, servers)]
    written += [((*p, "value"), v.value) for p, _, v in _variables(context, servers) if v.value is not None]
    for pointer, text in written:
        try:
            split_reference(text)
        except BadReferenceError as error:
            yield Finding(pointer, error.message, error.hint)


def literal(context: Context) -> Iterator[Finding]:
    """In cloud mode no secret stands in a file, not even one of a server that is switched off."""
    if not context.is_cloud:
        return
    servers = tuple(context.fleet.servers.values())
    written = [*_secrets(context, servers)]
    written += [((*p, "value"), v.value) for p, _, v in _variables(context, servers) if v.secret and v.value]
    for pointer, text in written:
        if _is_literal(text):
            yield Finding(pointer, "a secret is written in the file")


def _is_literal(text: str) -> bool:
    try:
        return split_reference(text) is None
    except BadReferenceError:
        return False


def failing_with(code: str) -> Callable[[Context], Iterator[Finding]]:
    """Make the rule for one way in which a secret cannot be had."""

    def find(context: Context) -> Iterator[Finding]:
        for pointer, error in _failures(context):
            if error.code == code:
                yield Finding(pointer, error.message, error.hint)

    return find


def _failures(context: Context) -> Iterator[tuple[Pointer, SecretError]]:
    for pointer, text in _secrets(context, context.servers()):
        found = context.secret(text)
        if isinstance(found, SecretError):
            yield pointer, found
        elif pointer[0] != "hooks" and (error := _not_text(found)):
            yield pointer, error
    for pointer, error in _variable_failures(context):
        if error.code != "SECRET-UNRESOLVED":
            yield pointer, error


def _not_text(secret: Secret) -> SecretError | None:
    """Return what the proxy would say, which uses all of them but a hook's as text."""
    try:
        secret.text()
    except SecretError as error:
        return error
    return None


def undeclared_secret(context: Context) -> Iterator[Finding]:
    """In cloud mode a variable whose name says secret is one, unless it is declared to be none."""
    if not context.is_cloud:
        return
    for pointer, name, variable in _variables(context, context.fleet.servers.values()):
        is_declared = "secret" in variable.model_fields_set
        if variable.value and not is_declared and _NAMED_SECRET.search(name) and _is_literal(variable.value):
            message = f"by its name {quoted(name)} is a secret, and it is written in the file"
            hint = "write a reference and `secret: true`, or `secret: false` if it is none"
            yield Finding((*pointer, "value"), message, hint)


def unresolved_variable(context: Context) -> Iterator[Finding]:
    for pointer, error in _variable_failures(context):
        if error.code == "SECRET-UNRESOLVED":
            hint = f"{error.hint}, or set `required: false`"
            yield Finding(pointer, f"a required variable resolves to nothing: {error.message}", hint)


def _variable_failures(context: Context) -> Iterator[tuple[Pointer, SecretError]]:
    """An agent's variable without a value is for whoever runs the agent; only a reference can fail here."""
    for pointer, name, variable in _variables(context, context.servers()):
        if pointer[0] == "agents" and variable.value is None:
            continue
        error = context.variable_error(name, variable)
        if error is not None and error.code != "SECRET-REFERENCE":
            yield (*pointer, "value"), error


def bad_variable_name(context: Context) -> Iterator[Finding]:
    for pointer, name, _ in _variables(context, context.fleet.servers.values()):
        if not name.isascii() or not name.isidentifier():
            yield Finding(pointer, f"{quoted(name)} cannot be the name of an environment variable", key=True)
