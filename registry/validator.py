"""Every rule of SPEC R3, in one table. All rules run, each finding is kept, none hides another."""

from collections.abc import Iterator
from dataclasses import replace

from registry.problems import Problem
from registry.rules import agents, contracts, endpoints, keys, names, peers, ports, programs, references, scopes, wire
from registry.rules.base import Context, Finding, Rule

MAX_PER_RULE = 500
_QUOTE = "set the variable, or write the reference to where it is"

RULES: tuple[Rule, ...] = (
    Rule("NAME-MISMATCH", "remove `name:`; the key is the name", names.mismatch),
    Rule("NAME-RESERVED", "choose another name", names.reserved),
    Rule("DISPLAY-NAME-EMPTY", "add `display_name:` with the name that people know", names.empty_display_name),
    Rule("DESCRIPTION-EMPTY", "add `description:` with one sentence about what it does", names.empty_description),
    Rule("PORT-MISSING", "add `port:` with a free one of the fleet's ports", ports.missing),
    Rule("PORT-RANGE", "choose a port between 1024 and 65535", ports.out_of_range),
    Rule("PORT-PRIVILEGED", "choose a port of the fleet's window; it only listens on loopback", ports.privileged),
    Rule("PORT-WINDOW", "choose a port inside, or widen `fleet.ports`", ports.outside_window),
    Rule("PORT-WINDOW-EMPTY", "swap `first` and `last`", ports.empty_window),
    Rule("PORT-CONFLICT", "give one of the two another port", ports.conflict),
    Rule(
        "INTERNAL-COMMAND",
        "add `command: [program, argument]`, or make it `type: external`",
        programs.internal_without_command,
    ),
    Rule("INTERNAL-ENDPOINT", "remove `endpoint:`, or make it `type: external`", programs.internal_with_endpoint),
    Rule("EXTERNAL-ENDPOINT", "add `endpoint: https://…`", programs.external_without_endpoint),
    Rule("EXTERNAL-COMMAND", "remove `command:`, or make it `type: internal`", programs.external_with_command),
    Rule("EXTERNAL-STDIO", "remove `transport: stdio`, or make it `type: internal`", programs.external_on_stdio),
    Rule("SOURCE-MISSING", "mend the path; it starts at the registry file's directory", programs.missing_source, True),
    Rule(
        "CWD-MISSING",
        "create it, or mend the path; it starts at the registry file's directory",
        programs.missing_directory,
        True,
    ),
    Rule("COMMAND-NOT-FOUND", "install it, or write the whole path", programs.command_not_found, True),
    Rule("COMMAND-NOT-EXECUTABLE", "chmod +x it, or name the interpreter first", programs.command_not_executable, True),
    Rule(
        "OAUTH-SCOPES-EMPTY",
        "list the scopes that every caller needs, or set `required: false`",
        scopes.required_but_empty,
    ),
    Rule("OAUTH-KEYS-MISSING", "add `keys:` or `jwks:`, or set `required: false`", keys.missing),
    Rule("OAUTH-ALGORITHM", "let `algorithms` and the kind of keys agree", keys.algorithm_without_key),
    Rule("AUDIENCE-DUPLICATE", "give each its own: a token for one must not open the other", scopes.duplicate_audience),
    Rule("KEY-SHARED", "make a second key: postern secret rotate SERVER", keys.shared_reference),
    Rule("KEY-SHARED", "make a second key: postern secret rotate SERVER", keys.shared_value, True),
    Rule("KEY-SHORT", "make one: postern secret rotate SERVER", keys.short, True),
    Rule("KEY-DUPLICATE-ID", "give each key its own `kid`", keys.duplicate_id),
    Rule("KEY-DATE", "write it as 2027-01-31T12:00:00Z", keys.unreadable_date),
    Rule("KEY-EXPIRED", "add a new key: postern secret rotate SERVER", keys.expired),
    Rule("SECRET-REFERENCE", "write env:NAME, file:/path or store:name", references.malformed),
    Rule(
        "SECRET-LITERAL",
        "write env:NAME, file:/path or store:name here, and keep the value out of the file",
        references.literal,
    ),
    Rule("SECRET-LITERAL", "write a reference and `secret: true`", references.undeclared_secret),
    Rule("SECRET-UNRESOLVED", _QUOTE, references.failing_with("SECRET-UNRESOLVED"), True),
    Rule("SECRET-FILE-MODE", "chmod 600 it", references.failing_with("SECRET-FILE-MODE"), True),
    Rule("SECRET-STORE", "make a key with `postern secret key`", references.failing_with("SECRET-STORE"), True),
    Rule("VARIABLE-UNRESOLVED", _QUOTE, references.unresolved_variable, True),
    Rule("VARIABLE-NAME", "letters, digits and underscores, not beginning with a digit", references.bad_variable_name),
    Rule("ENDPOINT-INVALID", "write it as https://host/path", endpoints.invalid),
    Rule("ENDPOINT-INSECURE", "use https", endpoints.insecure),
    Rule("ENDPOINT-PRIVATE", "use a public address, or run the server as `type: internal`", endpoints.private),
    Rule("PUBLIC-URL", "write the origin that clients use: https://mcp.example.com", endpoints.bad_public_url),
    Rule("AGENT-SERVER-UNKNOWN", "name a server of `servers:`", agents.unknown_server),
    Rule("AGENT-TOOL-UNKNOWN", "name it as the server declares it", agents.unknown_tool),
    Rule("AGENT-NOBODY", "add `subjects:` or `clients:`", agents.selects_nobody),
    Rule("PERMISSION-CYCLE", "remove one of these implications", scopes.circular),
    Rule("PERMISSION-SIZE", "declare fewer implications", scopes.too_many),
    Rule("SCOPE-SYNTAX", "printable ASCII without spaces, quotes and backslashes", scopes.malformed),
    Rule("SCOPE-UNSATISFIABLE", "declare who may have it, or need another scope", scopes.unsatisfiable),
    Rule("HEADER-INVALID", "write it as in `Authorization`, without colon and spaces", wire.bad_header_name),
    Rule("HEADER-INVALID", "store one line", wire.bad_header_value, True),
    Rule("PATH-INVALID", "begin with /, and write other characters with %: /mcp", wire.bad_path),
    Rule("CONTRACT-UNLOCKED", "lock it, or set `drift: warn` until it is", contracts.unlocked),
    Rule("CONTRACT-DIGEST", "write the digest that was reviewed", contracts.other_digest),
    Rule("CONTRACT-UNKNOWN", "name it as the server does; `postern lock --diff` shows what is new", contracts.unknown),
    Rule("CONTRACT-SCHEMA", "mend the schema, or remove it", contracts.unusable_schema),
    Rule("HOOK-TARGET", "write `python: module:function` or `url: https://…`", peers.hook_without_target),
    Rule("HOOK-PYTHON", "write `package.module:function` or `file.py:function`", peers.hook_malformed),
    Rule("HOOK-PYTHON", "mend the path; it starts at the registry file's directory", peers.hook_file_missing, True),
    Rule("HOOK-SECRET", "add `secret:`, a reference to 16 bytes or more", peers.hook_without_secret),
    Rule("HOOK-SECRET", "make one: openssl rand -base64 48", peers.hook_secret_unusable, True),
    Rule("HOOK-SERVER-UNKNOWN", "name a server of `servers:`", peers.hook_server_unknown),
    Rule("TRUSTED-PROXY-SERVER-UNKNOWN", "name a server of `servers:`", peers.proxy_server_unknown),
    Rule("TRUSTED-PROXY-KEYS", "add what its signatures are verified with", peers.proxy_without_keys),
    Rule("KEY-DUPLICATE-ID", "give each key its own `kid`", peers.proxy_key_id),
)


def validate(context: Context) -> Iterator[Problem]:
    """Run every rule; what is already known to be unreadable is not reported a second time."""
    whole = replace(context, only=None)
    for rule in RULES:
        if rule.needs_host and not context.on_host:
            continue
        for count, finding in enumerate(rule.find(context if rule.needs_host else whole)):
            if count >= MAX_PER_RULE:
                hint = "mend the ones above and check again"
                yield context.layout.problem("TOO-MANY-PROBLEMS", (), f"more of {rule.code} than are listed", hint)
                break
            if not context.layout.is_unread(context.layout.in_files(finding.pointer)):
                yield _problem(context, rule, finding)


def _problem(context: Context, rule: Rule, finding: Finding) -> Problem:
    layout = context.layout
    related = [layout.place(layout.in_files(pointer)) for pointer in finding.related]
    pointer = layout.in_files(finding.pointer)
    return layout.problem(
        rule.code, pointer, finding.message, finding.hint or rule.hint, key=finding.key, related=related
    )
