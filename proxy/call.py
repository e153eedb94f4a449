"""What is known of one request while it is on its way: filled step by step, written into its row at the end."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from time import perf_counter_ns
from uuid import UUID

from proxy.audit import record
from proxy.auth.identity import Anonymous, Authenticated, Identity
from proxy.authorize import Decision
from proxy.ids import execution_id
from proxy.sessions import Session
from proxy.sessions_events import Position
from proxy.wire.era import Era
from proxy.wire.jsonrpc import Envelope, EnvelopeKind
from registry.models import Server

STREAM_METHODS = frozenset({"subscriptions/listen"})


@dataclass(slots=True)
class Call:
    """One request. Fields that a step has not reached yet are None; `headers` are the client's, lower-case names."""

    server_name: str
    http_method: str
    headers: tuple[tuple[bytes, bytes], ...]
    remote: str
    started: datetime
    execution_id: UUID
    begun_ns: int = field(default_factory=perf_counter_ns)
    server: Server | None = None
    audience: str | None = None
    era: Era | None = None
    protocol_version: str | None = None
    envelope: Envelope | None = None
    identity: Identity | None = None
    decision: Decision | None = None
    session: Session | None = None
    session_id: str | None = None
    resumed: Position | None = None
    body: bytes = b""
    is_recorded: bool = False
    echo_id: int | str | None = None
    trace_id: str | None = None
    input: record.Payload | None = None
    contract: str | None = None
    hooks: tuple[dict[str, object], ...] = ()
    note: str | None = None

    @classmethod
    def arrive(
        cls, server_name: str, http_method: str, headers: tuple[tuple[bytes, bytes], ...], remote: str
    ) -> "Call":
        """A request has arrived just now."""
        now = datetime.now(UTC)
        return cls(server_name, http_method, headers, remote, now, execution_id(now))

    def late(self, envelope: Envelope | None) -> "Call":
        """Return the same caller's record of an answer that arrives on another stream than its request's."""
        now = datetime.now(UTC)
        return replace(
            self, started=now, execution_id=execution_id(now), begun_ns=perf_counter_ns(), envelope=envelope, input=None
        )

    @property
    def rpc_id(self) -> int | str | None:
        """The id of the JSON-RPC request, where there is one; that of a response names the server's request."""
        if self.envelope is None:
            return self.echo_id
        return None if self.envelope.kind is EnvelopeKind.RESPONSE else self.envelope.id

    @property
    def method(self) -> str | None:
        """The JSON-RPC method, where there is one."""
        return self.envelope.method if self.envelope is not None else None

    @property
    def is_tool_call(self) -> bool:
        """Whether this request runs a tool."""
        return self.method == "tools/call"

    @property
    def is_long_lived(self) -> bool:
        """Whether the answer is a stream without a foreseeable end."""
        return self.http_method == "GET" or self.method in STREAM_METHODS

    def header(self, name: bytes) -> bytes | None:
        """Return the first header of that lower-case name."""
        return next((value for key, value in self.headers if key == name), None)

    def request(self) -> record.Request:
        """What intent and row say about the request."""
        decision = self.decision
        scopes = record.Scopes(decision.required, decision.held, decision.matched) if decision else record.Scopes()
        return record.Request(
            execution_id=self.execution_id,
            server=self.server_name,
            started=self.started,
            http_method=self.http_method,
            method=self.method,
            tool=self.target(),
            subject=self._subject(),
            audience=self.audience,
            scopes=scopes,
            session=self.session_id,
            protocol_version=self.protocol_version,
            trace_id=self.trace_id,
            remote=self.remote,
            input=self.input,
        )

    def target(self) -> str | None:
        """The tool, prompt or resource that the request names."""
        if self.envelope is None or self.envelope.params is None:
            return None
        named = self.envelope.params.get("uri" if self.method == "resources/read" else "name")
        return named if isinstance(named, str) else None

    def _subject(self) -> record.Subject:
        agent = self.decision.agent if self.decision else None
        match self.identity:
            case Authenticated() as who:
                return record.Subject(who.method, who.issuer, who.subject, who.client, agent, who.asserted_by)
            case Anonymous():
                return record.Subject("anonymous", agent=agent)
            case None:
                return record.Subject()

    def outcome(
        self,
        status: record.Status,
        code: str,
        reason: str,
        http_status: int,
        *,
        output: record.Payload | None = None,
        error: str | None = None,
        upstream_us: int | None = None,
        events: int | None = None,
    ) -> record.Outcome:
        """How the request ended, as of now."""
        return record.Outcome(
            status=status,
            decision=code,
            reason=reason,
            http_status=http_status,
            completed=datetime.now(UTC),
            duration_us=(perf_counter_ns() - self.begun_ns) // 1000,
            upstream_us=upstream_us,
            output=output,
            contract=self.contract,
            artifact=self.decision.artifact if self.decision else None,
            error=error if error is not None else self.note,
            events=events,
            hooks=self.hooks,
        )
