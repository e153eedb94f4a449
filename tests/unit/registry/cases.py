"""One registry file for each code, with the exact line of each finding. tests/docs/test_problems.py sees to it that none is missing."""

from tests.unit.registry.making import GOOD, OAUTH_A, OAUTH_B, REMOTE, A, B

HEAD = "version: 1\n"


def servers(*lines: str) -> str:
    return HEAD + "servers:\n" + "".join(f"  {line}\n" for line in lines)


def cloud(*lines: str) -> str:
    return HEAD + "fleet: {mode: cloud}\nservers:\n" + "".join(f"  {line}\n" for line in lines)


CASES: dict[str, str] = {
    # ---- what the reader finds
    "YAML-SYNTAX": HEAD + "servers: {}\n  oops: 1 #! YAML-SYNTAX\n",
    "YAML-ANCHOR": servers("a: &first #! YAML-ANCHOR", f"  {{{A}}}", "b: *first #! YAML-ANCHOR"),
    "YAML-MERGE": servers(
        f"a: {{{A}}}",
        "b:",
        "  <<: {port: 1} #! YAML-MERGE",
        "  display_name: B",
        "  description: b",
        "  port: 5002",
        "  command: [sh]",
        f"  {OAUTH_B}",
    ),
    "YAML-TAG": HEAD + "fleet:\n  name: !!str demo #! YAML-TAG\n",
    "YAML-NUMBER": servers("a:", f"  {{{GOOD}, {OAUTH_A},", "   port: 05001} #! YAML-NUMBER"),
    "YAML-DUPLICATE-KEY": servers(f"a: {{{A}}}", f"a: {{{B}}} #! YAML-DUPLICATE-KEY"),
    "YAML-KEY": HEAD + "fleet:\n  ? [1] #! YAML-KEY\n  : 2\n",
    "YAML-DOCUMENTS": HEAD + "--- #! YAML-DOCUMENTS\nservers: {}\n",
    "YAML-CHARACTER": servers(f"a: {{{A},", '   env: {X: "a\\0b"}} #! YAML-CHARACTER'),
    # ---- includes
    "INCLUDE-PATTERN": HEAD + "include: [../elsewhere.yaml] #! INCLUDE-PATTERN\n",
    "INCLUDE-NOTHING": HEAD + "include: [servers/*.yaml] #! INCLUDE-NOTHING\n",
    # ---- what the models find
    "SCHEMA-UNKNOWN-KEY": servers(f"a: {{{A},", "   tolos: {}} #! SCHEMA-UNKNOWN-KEY"),
    "SCHEMA-MISSING": servers(f"a: {{{A},", "   headers: [{name: X}]} #! SCHEMA-MISSING"),
    "SCHEMA-TYPE": servers(f"a: {{{A},", "   enabled: no} #! SCHEMA-TYPE"),
    "SCHEMA-CHOICE": servers(f"a: {{{A},", "   transport: https} #! SCHEMA-CHOICE"),
    "SCHEMA-RANGE": servers(f"a: {{{A},", "   limits: {depth: 0}} #! SCHEMA-RANGE"),
    "SCHEMA-NAME": servers(f"My_Server: {{{A}}} #! SCHEMA-NAME"),
    # ---- names and texts
    "NAME-MISMATCH": servers(f"a: {{{A},", "    name: b} #! NAME-MISMATCH"),
    "NAME-RESERVED": servers(f"postern-proxy: {{{A}}} #! NAME-RESERVED"),
    "DISPLAY-NAME-EMPTY": servers(
        "a:",
        '  display_name: "  " #! DISPLAY-NAME-EMPTY',
        "  description: d",
        "  command: [sh]",
        "  port: 5001",
        f"  {OAUTH_A}",
    ),
    "DESCRIPTION-EMPTY": servers(
        "a: #! DESCRIPTION-EMPTY", "  display_name: d", "  command: [sh]", "  port: 5001", f"  {OAUTH_A}"
    ),
    # ---- ports
    "PORT-MISSING": servers(f"a: {{{GOOD}, {OAUTH_A}}} #! PORT-MISSING"),
    "PORT-RANGE": servers(f"a: {{{GOOD}, {OAUTH_A},", "   port: 70000} #! PORT-RANGE"),
    "PORT-PRIVILEGED": servers(f"a: {{{GOOD}, {OAUTH_A},", "   port: 80} #! PORT-PRIVILEGED"),
    "PORT-WINDOW": servers(f"a: {{{GOOD}, {OAUTH_A},", "   port: 6001} #! PORT-WINDOW"),
    "PORT-WINDOW-EMPTY": HEAD
    + "fleet:\n  ports:\n    first: 6000\n    last: 5000 #! PORT-WINDOW-EMPTY\n"
    + "servers:\n"
    + f"  a: {{{A}}}\n",
    "PORT-CONFLICT": servers(f"a: {{{A}}}", f"b: {{{GOOD}, {OAUTH_B},", "   port: 5001} #! PORT-CONFLICT"),
    # ---- kinds and programs
    "INTERNAL-COMMAND": servers(
        f"a: {{display_name: A, description: d, port: 5001, {OAUTH_A}}} #! INTERNAL-COMMAND",
        f"b: {{display_name: B, description: d, port: 5002, {OAUTH_B},",
        "   command: ['', sh]} #! INTERNAL-COMMAND",
    ),
    "INTERNAL-ENDPOINT": servers(f"a: {{{A},", "   endpoint: https://example.com/mcp} #! INTERNAL-ENDPOINT"),
    "EXTERNAL-ENDPOINT": servers(f"r: {{{REMOTE}, {OAUTH_A}}} #! EXTERNAL-ENDPOINT"),
    "EXTERNAL-COMMAND": servers(
        f"r: {{{REMOTE}, {OAUTH_A}, endpoint: https://example.com/mcp,", "   command: [sh]} #! EXTERNAL-COMMAND"
    ),
    "EXTERNAL-STDIO": servers(
        f"r: {{{REMOTE}, {OAUTH_A}, endpoint: https://example.com/mcp,", "   transport: stdio} #! EXTERNAL-STDIO"
    ),
    "SOURCE-MISSING": servers(f"a: {{{A},", "   source: nowhere} #! SOURCE-MISSING"),
    "CWD-MISSING": servers(f"a: {{{A},", "   cwd: nowhere} #! CWD-MISSING"),
    "COMMAND-NOT-FOUND": servers(
        f"a: {{display_name: A, description: d, port: 5001, {OAUTH_A},",
        "   command: [no-such-program]} #! COMMAND-NOT-FOUND",
        f"b: {{display_name: A, description: d, port: 5002, {OAUTH_B},",
        "   command: [bin/none]} #! COMMAND-NOT-FOUND",
    ),
    "COMMAND-NOT-EXECUTABLE": servers(
        f"a: {{display_name: A, description: d, port: 5001, {OAUTH_A},",
        "   command: [./postern.yaml]} #! COMMAND-NOT-EXECUTABLE",
    ),
    # ---- identity
    "OAUTH-SCOPES-EMPTY": servers(
        f"a: {{{GOOD}, port: 5001, oauth: {{keys: [{{kid: k, secret: env:KEY_A}}],",
        "   scopes: []}} #! OAUTH-SCOPES-EMPTY",
    ),
    "OAUTH-KEYS-MISSING": servers(
        f"a: {{{GOOD}, port: 5001,", "   oauth: {scopes: []}, #! OAUTH-KEYS-MISSING OAUTH-SCOPES-EMPTY", "  }"
    )
    + "proxy:\n  admin: {required: false} #! OAUTH-KEYS-MISSING\n",
    "OAUTH-ALGORITHM": servers(
        f"a: {{{GOOD}, port: 5001, oauth: {{scopes: [a:use], keys: [{{kid: k, secret: env:KEY_A}}],",
        "   algorithms: [RS256]}} #! OAUTH-ALGORITHM",
    ),
    "AUDIENCE-DUPLICATE": servers(
        f"a: {{{GOOD}, port: 5001, oauth: {{scopes: [a:use], audience: https://x.example, keys: [{{kid: k, secret: env:KEY_A}}]}}}}",
        f"b: {{{GOOD}, port: 5002, oauth: {{scopes: [b:use], keys: [{{kid: k, secret: env:KEY_B}}],",
        "   audience: HTTPS://X.example/}} #! AUDIENCE-DUPLICATE",
        f"c: {{{GOOD}, port: 5003, oauth: {{scopes: [c:use], audience: http://127.0.0.1:8080/registry, keys: [{{kid: k, secret: env:KEY_C}}]}}}}",
    )
    + "proxy:\n  admin: {scopes: [x], keys: [{kid: k, secret: env:KEY_D}]} #! AUDIENCE-DUPLICATE\n",
    "KEY-SHARED": servers(
        f"a: {{{A}}}",
        f"b: {{{GOOD}, port: 5002, oauth: {{scopes: [b:use],",
        "   keys: [{kid: k, secret: env:KEY_A}]}} #! KEY-SHARED",
        f"c: {{{GOOD}, port: 5003, oauth: {{scopes: [c:use],",
        f"   keys: [{{kid: k, secret: {'a' * 32}}}]}}}} #! KEY-SHARED",
    ),
    "KEY-SHORT": servers(
        f"a: {{{GOOD}, port: 5001, oauth: {{scopes: [a:use],", "   keys: [{kid: k, secret: too-short}]}} #! KEY-SHORT"
    ),
    "KEY-DUPLICATE-ID": servers(
        f"a: {{{GOOD}, port: 5001, oauth: {{scopes: [a:use], keys: [",
        "   {kid: k, secret: env:KEY_A},",
        "   {kid: k, secret: env:KEY_B}]}} #! KEY-DUPLICATE-ID",
    )
    + "trusted_proxies:\n"
    + "".join(
        f"  {name}: {{permissions: [], servers: [], scheme: {scheme}, keys: [\n"
        f"    {{kid: {kid}, algorithm: hmac-sha256, secret: env:KEY_C}}]}} {marker}\n"
        for name, scheme, kid, marker in (
            ("one", "postern", "k", ""),
            ("two", "postern", "k", "#! KEY-DUPLICATE-ID"),
            ("three", "rfc9421", "k", ""),
            ("four", "postern", "not plain", "#! KEY-DUPLICATE-ID"),
        )
    ),
    "KEY-DATE": servers(
        f"a: {{{GOOD}, port: 5001, oauth: {{scopes: [a:use], keys: [",
        "   {kid: k, secret: env:KEY_A, not_after: tomorrow}]}} #! KEY-DATE",
    ),
    "KEY-EXPIRED": servers(
        f"a: {{{GOOD}, port: 5001, oauth: {{scopes: [a:use],",
        "   keys: #! KEY-EXPIRED",
        '     [{kid: k, secret: env:KEY_A, not_after: "2026-11-23T11:59:59Z"}]}}',
    ),
    # ---- secrets and variables
    "SECRET-REFERENCE": servers(f"a: {{{A},", "   headers: [{name: X, value: 'env:'}]} #! SECRET-REFERENCE"),
    "SECRET-LITERAL": cloud(
        f"a: {{{GOOD}, port: 5001, oauth: {{scopes: [a:use],",
        f"   keys: [{{kid: k, secret: {'x' * 40}}}]}}, #! SECRET-LITERAL",
        "   env: {T: {value: hunter2, secret: true}, #! SECRET-LITERAL",
        "   DB_PASSWORD: hunter2, #! SECRET-LITERAL",
        "   AWS_SECRET_ACCESS_KEY: {value: hunter2}, #! SECRET-LITERAL",
        "   PAGE_TOKEN: {value: open, secret: false},",
        "   GITHUB_TOKEN: env:KEY_B, TOKEN_LIMIT: '5'},",
        "   tables: [{name: t, database: 'postgresql://u:hunter2@h/d'}]} #! SECRET-LITERAL",
    ),
    "SECRET-UNRESOLVED": servers(
        f"a: {{{A}, headers: [",
        "   {name: X, value: env:NOT_SET}], tables: [ #! SECRET-UNRESOLVED",
        "   {name: t, database: env:NOT_SET}, #! SECRET-UNRESOLVED",
        "   {name: u, database: env:KEY_B}, {name: v, database: env:KEY_B}]}",
    ),
    "SECRET-STORE": servers(f"a: {{{A},", "   headers: [{name: X, value: store:x}]} #! SECRET-STORE"),
    "SECRET-FILE-MODE": servers(f"a: {{{A},", "   headers: [{name: X, value: file:postern.yaml}]} #! SECRET-FILE-MODE"),
    "VARIABLE-UNRESOLVED": servers(
        f"a: {{{A}, env: {{",
        "   X: env:NOT_SET, #! VARIABLE-UNRESOLVED",
        "   Y: {}, #! VARIABLE-UNRESOLVED",
        "   V: {value: '', secret: true}, #! VARIABLE-UNRESOLVED",
        "   W: {value: ''},",
        "   Z: {required: false}}}",
    ),
    "VARIABLE-NAME": servers(f"a: {{{A}, env: {{", "   MY-VAR: x}} #! VARIABLE-NAME"),
    # ---- addresses
    "ENDPOINT-INVALID": servers(f"r: {{{REMOTE}, {OAUTH_A},", "   endpoint: ftp://example.com} #! ENDPOINT-INVALID"),
    "ENDPOINT-INSECURE": servers(
        f"r: {{{REMOTE}, {OAUTH_A},", "   endpoint: http://example.com/mcp} #! ENDPOINT-INSECURE"
    ),
    "ENDPOINT-PRIVATE": servers(
        f"r: {{{REMOTE}, {OAUTH_A},", "   endpoint: https://169.254.169.254/mcp} #! ENDPOINT-PRIVATE"
    ),
    "PUBLIC-URL": HEAD + "proxy:\n  public_url: https://example.com/postern #! PUBLIC-URL\n",
    # ---- agents
    "AGENT-SERVER-UNKNOWN": servers(f"notes: {{{A}}}")
    + "agents:\n  x:\n    subjects: [x]\n    servers:\n      note: {} #! AGENT-SERVER-UNKNOWN\n",
    "AGENT-TOOL-UNKNOWN": servers(f"a: {{{A}, tools: {{read: {{}}}}}}")
    + "agents:\n  x:\n    subjects: [x]\n    servers:\n      a:\n        tools: [reed] #! AGENT-TOOL-UNKNOWN\n",
    "AGENT-NOBODY": HEAD + "agents:\n  x: {} #! AGENT-NOBODY\n",
    # ---- permissions and scopes
    "PERMISSION-CYCLE": HEAD + "permissions:\n  implies:\n    a: [b] #! PERMISSION-CYCLE\n    b: [a]\n",
    "PERMISSION-SIZE": HEAD
    + f"permissions: #! PERMISSION-SIZE\n  ladder: [{', '.join(f's{i}' for i in range(1500))}]\n",
    "SCOPE-SYNTAX": servers(f"a: {{{A}, tools: {{t: {{", '   scopes: ["a b"]}}} #! SCOPE-SYNTAX'),
    "SCOPE-UNSATISFIABLE": HEAD
    + "permissions: {scopes: [a:admin], implies: {a:admin: [a:use, a:read]}}\n"
    + f"servers:\n  a: {{{A}, tools: {{t: {{\n    scopes: [a:raed]}}}}}} #! SCOPE-UNSATISFIABLE\n",
    # ---- what goes over the wire
    "HEADER-INVALID": servers(
        f"a: {{{A}, headers: [",
        "   {name: 'X Key', value: env:KEY_B}, #! HEADER-INVALID",
        '   {name: "X-Key\\r\\nY", value: env:KEY_B}, #! HEADER-INVALID',
        "   {name: Content-Length, value: env:KEY_B}, #! HEADER-INVALID",
        "   {name: Mcp-Session-Id, value: env:KEY_B}, #! HEADER-INVALID",
        '   {name: X-Key, value: "two\\nlines"}]} #! HEADER-INVALID',
    )
    + "trusted_proxies:\n  sso:\n    scheme: jwt\n    servers: []\n    permissions: []\n    assertion:\n"
    + "      {issuer: i, audience: a, jwks: {url: https://x.example/j},\n      header: 'X:Y'} #! HEADER-INVALID\n",
    "PATH-INVALID": servers(
        f"a: {{{A},", "   path: mcp} #! PATH-INVALID", f"b: {{{B},", '   path: "/m cp"} #! PATH-INVALID'
    ),
    # ---- contracts; those that need a lock file are in test_lock_rules.py
    "CONTRACT-UNLOCKED": servers(
        f"a: {{{A}, contract: {{",
        "   drift: strict}} #! CONTRACT-UNLOCKED",
        f"b: {{{B}, contract: {{drift: warn,",
        "   resources: strict}} #! CONTRACT-UNLOCKED",
        "c: {enabled: false, contract: {drift: strict}}",
    ),
    "CONTRACT-DIGEST": servers(f"a: {{{A}, tools: {{t: {{", '   contract: "sha256:0"}}} #! CONTRACT-DIGEST'),
    "CONTRACT-SCHEMA": servers(
        f"a: {{{A}, tools: {{",
        "   t: {output_schema: {type: strange}}, #! CONTRACT-SCHEMA",
        "   u: {output_schema: {$ref: 'https://example.com/x'}}, #! CONTRACT-SCHEMA",
        "   v: {output_schema: {anyOf: [{$ref: '#'}]}}, #! CONTRACT-SCHEMA",
        "   w: {output_schema: {type: object}}}}",
    ),
    # ---- hooks and trusted proxies
    "HOOK-TARGET": HEAD + "hooks:\n  - {name: h, event: PreToolUse} #! HOOK-TARGET\n",
    "HOOK-PYTHON": HEAD
    + "hooks:\n  - {name: h, event: PreToolUse, python: policies} #! HOOK-PYTHON\n"
    + "  - {name: i, event: PreToolUse, python: 'policies:'} #! HOOK-PYTHON\n"
    + "  - {name: j, event: PreToolUse, python: 'policies.py:check'} #! HOOK-PYTHON\n"
    + "  - {name: k, event: PreToolUse, python: ''} #! HOOK-PYTHON\n"
    + "  - {name: l, event: PreToolUse, python: 'package.module:check'}\n",
    "HOOK-SECRET": HEAD
    + "hooks:\n  - {name: h, event: PreToolUse, url: 'https://example.com/h'} #! HOOK-SECRET\n"
    + "  - {name: i, event: PreToolUse, url: 'https://example.com/h', secret: too-short} #! HOOK-SECRET\n"
    + "  - {name: j, event: PreToolUse, url: 'https://example.com/h', secret: whsec_not-in-base64} #! HOOK-SECRET\n"
    + "  - {name: k, event: PreToolUse, url: 'https://example.com/h', secret: whsec_aW4gYmFzZTY0}\n"
    + "  - {name: l, event: PreToolUse, url: 'https://example.com/h', secret: env:KEY_C}\n",
    "HOOK-SERVER-UNKNOWN": HEAD
    + "hooks:\n  - {name: h, event: PreToolUse, python: 'm:f', servers: [nobody]} #! HOOK-SERVER-UNKNOWN\n",
    "TRUSTED-PROXY-SERVER-UNKNOWN": HEAD
    + "trusted_proxies:\n  sso:\n    keys: [{kid: k, algorithm: hmac-sha256, secret: env:KEY_C}]\n    permissions: []\n    servers: [nobody] #! TRUSTED-PROXY-SERVER-UNKNOWN\n",
    "TRUSTED-PROXY-KEYS": HEAD
    + "trusted_proxies:\n  sso:\n    permissions: []\n    servers: []\n    keys:\n"
    + "      - {kid: k, algorithm: ed25519} #! TRUSTED-PROXY-KEYS\n"
    + "      - {kid: l, algorithm: ed25519, public_key: c2hvcnQ=} #! TRUSTED-PROXY-KEYS\n"
    + "      - {kid: m, algorithm: ed25519, public_key: none at all} #! TRUSTED-PROXY-KEYS\n"
    + f"      - {{kid: n, algorithm: ed25519, public_key: {'A' * 43}=}}\n",
}

# What a marker cannot stand beside: content, code, line.
RAW_CASES: dict[str, tuple[bytes, int]] = {
    "YAML-EMPTY": (b"# nothing\n", 1),
    "YAML-ENCODING": (b"version: 1\nfleet: {name: \xff}\n", 2),
    "YAML-TOO-LARGE": (b"version: 1\nfleet: " + b"[" * 100 + b"]" * 100, 2),
    "TOO-MANY-PROBLEMS": (b"version: 1\n" + b"".join(b"key%d: 1\n" % i for i in range(600)), 1),
}
