"""What a fleet is: frozen, strict models of `postern.yaml` (SPEC R1, R2). The loader builds them."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Bytes = Annotated[int, Field(gt=0)]
Port = Annotated[int, Field(ge=1, le=65_535)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Strings = Annotated[tuple[str, ...], Field(strict=False)]
DriftMode = Literal["strict", "warn", "skip"]
ArtifactKind = Literal[
    "text", "table", "list", "chart", "dashboard", "form", "image", "audio", "video", "card", "message"
]
Algorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]


class Model(BaseModel):
    """Base of every section: unknown keys are errors, types are exact, instances never change."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Variable(Model):
    """One environment variable. `value` is a literal or a reference (`env:NAME`, `file:/path`, `store:NAME`)."""

    value: str | None = None
    description: str = ""
    secret: bool = False
    required: bool = True


class Key(Model):
    """One signing key: `secret` is a reference, or a literal in dev mode; `not_after` ends an overlap (RFC 3339)."""

    kid: str = Field(min_length=1, max_length=64)
    secret: str
    not_after: str | None = None


class Jwks(Model):
    """Asymmetric keys published by the issuer."""

    url: str
    cache_s: Seconds = 300.0
    cooldown_s: Seconds = 30.0
    timeout_s: Seconds = 5.0
    max_bytes: Bytes = 262_144
    allow_private: bool = False


class OAuth(Model):
    """How one server, as an OAuth 2 resource server of its own, recognises its callers (SPEC I1–I3)."""

    required: bool = True
    issuer: str | None = None
    audience: str | None = None
    algorithms: Annotated[tuple[Algorithm, ...], Field(strict=False)] = ("HS256",)
    keys: Annotated[tuple[Key, ...], Field(strict=False)] = ()
    jwks: Jwks | None = None
    scopes: Strings = ()
    authorization_servers: Strings = ()
    leeway_s: Annotated[float, Field(ge=0, le=300)] = 30.0


class RedactRule(Model):
    """JSON pointers whose values never reach the audit row: into the arguments, and into the result."""

    input: Strings = ()
    output: Strings = ()


class Tool(Model):
    """What one tool needs and returns. `scopes` are all needed; `any_of` lists alternatives, each all-of."""

    scopes: Strings = ()
    any_of: Annotated[tuple[Strings, ...], Field(strict=False)] = ()
    contract: str | None = None
    artifact: ArtifactKind | None = None
    output_schema: Mapping[str, object] | None = None
    redact: RedactRule = RedactRule()
    timeout_s: Seconds | None = None


class Table(Model):
    """A PostgreSQL table that the server needs (SPEC C4).

    `columns` maps names to types (`uuid`, `text not null`). `create` is the statement that makes a missing one.
    `database` refers to the address of the database it is in; default is Postern's own.
    """

    name: str
    columns: Mapping[str, str] = {}
    mode: DriftMode = "strict"
    create: str | None = None
    database: str | None = None


class Timeouts(Model):
    """Limits of one exchange with the server (SPEC S5)."""

    connect_s: Seconds = 5.0
    first_byte_s: Seconds = 60.0
    idle_s: Seconds = 300.0
    total_s: Seconds = 3600.0


class Limits(Model):
    """What one server takes from its callers (SPEC U4)."""

    body_bytes: Bytes = 4_194_304
    response_bytes: Bytes = 16_777_216
    depth: Annotated[int, Field(gt=0, le=512)] = 64
    concurrency: Annotated[int, Field(gt=0)] = 256
    rate_per_principal: Annotated[int, Field(gt=0)] | None = None


class Health(Model):
    """When a server counts as up (SPEC L2, L5)."""

    interval_s: Seconds = 10.0
    timeout_s: Seconds = 5.0
    start_attempts: Annotated[int, Field(gt=0)] = 40
    start_budget_s: Seconds = 20.0
    failures: Annotated[int, Field(gt=0)] = 3


class Lifecycle(Model):
    """How a server is started and stopped (SPEC L2–L4, L6).

    `beyond_loopback`: it may listen where others than the proxy reach it, for a program that cannot do otherwise.
    """

    stop_grace_s: Seconds = 10.0
    drain_s: Seconds = 10.0
    restart_backoff_s: Seconds = 0.5
    restart_backoff_max_s: Seconds = 30.0
    crash_limit: Annotated[int, Field(gt=0)] = 5
    crash_window_s: Seconds = 60.0
    reconcile: Literal["fresh", "adopt"] = "adopt"
    user: str | None = None
    memory_bytes: Bytes | None = None
    open_files: Annotated[int, Field(gt=0)] | None = None
    beyond_loopback: bool = False


class Bridge(Model):
    """How a stdio server is spoken to (SPEC L6)."""

    modern_child: Literal["shared", "per-principal"] = "shared"
    max_children: Annotated[int, Field(gt=0)] = 32
    idle_s: Seconds = 600.0
    start_timeout_s: Seconds = 20.0


class Sessions(Model):
    """Legacy sessions (SPEC S2–S4). `rebuild: false` says that lost upstream state cannot be re-created."""

    idle_s: Seconds = 3600.0
    absolute_s: Seconds = 86_400.0
    rebuild: bool = True


class Contract(Model):
    """What happens when a pinned tool changes, or an argument or result breaks its schema (SPEC C1, C2).

    `resources` replaces `drift` for resources and their templates, where a server lists whatever it happens to hold.
    `recheck_s`: the server is asked again at the latest after so long.
    """

    drift: DriftMode = "warn"
    resources: DriftMode | None = None
    input: DriftMode = "strict"
    output: DriftMode = "strict"
    recheck_s: Seconds = 300.0


class Hook(Model):
    """A policy hook: a Python callable `module:function` or an HTTP endpoint (SPEC C5).

    `tools` are names or patterns (`delete_*`). `required`: a result is withheld if this hook fails after the call.
    """

    name: str
    event: Literal["PreToolUse", "PostToolUse", "PostToolUseFailure"]
    python: str | None = None
    url: str | None = None
    secret: str | None = None
    servers: Strings = ()
    tools: Strings = ()
    timeout_s: Seconds = 2.0
    max_bytes: Bytes = 1_048_576
    required: bool = False
    settings: Mapping[str, object] = {}


class UpstreamHeader(Model):
    """A credential that the proxy, never the client, presents to the server."""

    name: str
    value: str


class Server(Model):
    """One MCP server. `name` is its key in `servers:` and part of its address `/NAME/mcp`."""

    name: Name
    display_name: str = ""
    description: str = ""
    type: Literal["internal", "external"] = "internal"
    enabled: bool = True
    dev_only: bool = False
    transport: Literal["http", "stdio"] = "http"
    port: int | None = None
    path: str = "/mcp"
    command: Strings = ()
    cwd: str | None = None
    source: str | None = None
    endpoint: str | None = None
    env: Mapping[str, Variable] = {}
    headers: Annotated[tuple[UpstreamHeader, ...], Field(strict=False)] = ()
    oauth: OAuth = OAuth()
    tools: Mapping[str, Tool] = {}
    prompts: Mapping[str, Tool] = {}
    resources: Mapping[str, Tool] = {}
    tables: Annotated[tuple[Table, ...], Field(strict=False)] = ()
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    health: Health = Health()
    lifecycle: Lifecycle = Lifecycle()
    bridge: Bridge = Bridge()
    sessions: Sessions = Sessions()
    contract: Contract = Contract()


class AgentServer(Model):
    """The tools of one server that an agent can reach."""

    tools: Strings = ()
    prompts: Strings = ()
    resources: Strings = ()


class Agent(Model):
    """What an agent can reach; anything else does not exist for it (SPEC R7). `subjects` and `clients` select it."""

    name: Name
    description: str = ""
    subjects: Strings = ()
    clients: Strings = ()
    servers: Mapping[str, AgentServer] = {}
    variables: Mapping[str, Variable] = {}


class Permissions(Model):
    """`ladder`: each rung implies the later ones. `implies`: scope families. `scopes`: all that issuers ever grant."""

    ladder: Strings = ()
    scopes: Strings = ()
    implies: Mapping[str, Strings] = {}


class ProxyKey(Model):
    """A key of a trusted upstream proxy: an HMAC secret reference or an Ed25519 public key (base64)."""

    kid: str = Field(min_length=1, max_length=64)
    algorithm: Literal["hmac-sha256", "ed25519"]
    secret: str | None = None
    public_key: str | None = None
    not_after: str | None = None


class Assertion(Model):
    """Signed-JWT assertion header of an SSO proxy."""

    header: str
    issuer: str
    audience: str
    algorithms: Annotated[tuple[Algorithm, ...], Field(strict=False)] = ("ES256", "RS256")
    jwks: Jwks
    permissions_claim: str = "permissions"


class TrustedProxy(Model):
    """An upstream proxy that may assert identities (SPEC I7): for which servers, and up to which permissions."""

    scheme: Literal["postern", "jwt", "rfc9421"] = "postern"
    keys: Annotated[tuple[ProxyKey, ...], Field(strict=False)] = ()
    assertion: Assertion | None = None
    servers: Strings
    permissions: Strings
    window_s: Seconds = 60.0


class Listen(Model):
    """Where the proxy listens, and what clients call it."""

    host: str = "127.0.0.1"
    port: Port = 8080
    public_url: str | None = None
    trusted_forwarders: Strings = ()
    allowed_origins: Strings = ()
    allowed_hosts: Strings = ()
    workers: Annotated[int, Field(gt=0, le=64)] = 1
    admin_scope: str = "postern:admin"
    auditor_scope: str = "postern:auditor"
    admin: OAuth | None = None
    drain_s: Seconds = 20.0


class AuditSettings(Model):
    """How much a row keeps, and how fast refusals from one source may write (SPEC A5, A7)."""

    payload_bytes: Annotated[int, Field(ge=0)] = 65_536
    refusals_per_source: Annotated[int, Field(gt=0)] = 20
    refusals_window_s: Seconds = 10.0
    checkpoint_s: Seconds = 60.0
    checkpoint_file: str | None = None
    partition: Literal["day", "month"] = "month"


class PortWindow(Model):
    """Where the ports of internal servers lie."""

    first: Port = 5000
    last: Port = 5999


class FleetSettings(Model):
    """The fleet as a whole."""

    name: Name = "postern"
    mode: Literal["dev", "cloud"] = "dev"
    ports: PortWindow = PortWindow()


class Fleet(Model):
    """Everything that exists."""

    version: Literal[1]
    fleet: FleetSettings = FleetSettings()
    proxy: Listen = Listen()
    audit: AuditSettings = AuditSettings()
    permissions: Permissions = Permissions()
    trusted_proxies: Mapping[str, TrustedProxy] = {}
    hooks: Annotated[tuple[Hook, ...], Field(strict=False)] = ()
    servers: Mapping[str, Server] = {}
    agents: Mapping[str, Agent] = {}

    def public_url(self) -> str:
        """The origin that clients use, without a trailing slash."""
        return (self.proxy.public_url or f"http://{self.proxy.host}:{self.proxy.port}").rstrip("/")

    def resource_url(self, server: Server) -> str:
        """The exact URL of one server as clients use it: its RFC 9728 `resource` and default audience."""
        return f"{self.public_url()}/{server.name}/mcp"

    def admin_url(self) -> str:
        """The URL of the administrators' resource, and its default audience."""
        return f"{self.public_url()}/registry"

    def audience(self, server: Server) -> str:
        """The audience that a token for this server must name."""
        return server.oauth.audience or self.resource_url(server)

    def enabled_servers(self) -> tuple[Server, ...]:
        """Servers that exist now: enabled, and not `dev_only` in cloud mode; in file order."""
        cloud = self.fleet.mode == "cloud"
        return tuple(s for s in self.servers.values() if s.enabled and not (cloud and s.dev_only))
