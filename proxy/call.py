"""What is known of one request while it is on its way: filled step by step, written into its row at the end."""

from datetime import UTC, datetime
from time import perf_counter_ns
from uuid import UUID

from msgspec import Struct

from proxy.audit import record
from proxy.audit.hidden import NOTHING, Hidden
from proxy.audit.redact import told, told_all
from proxy.auth.identity import Anonymous, Authenticated, Identity
from proxy.authorize import Decision
from proxy.ids import execution_id
from proxy.sessions.events import Position
from proxy.sessions.store import Session
from proxy.tasks.store import Task
from proxy.wire.era import Era
from proxy.wire.fields import index_of
from proxy.wire.jsonrpc import Envelope, EnvelopeKind
from registry.models import Server

STREAM_METHODS = frozenset({"subscriptions/listen"})
_KEPT_WHEN_LATE = (
    *("server", "audience", "era", "protocol_version", "identity", "decision", "session", "session_id", "resumed"),
    *("body", "is_recorded", "trace_id", "contract", "hooks", "note", "hidden"),
)
_NO_SCOPES = record.Scopes()
_NAME_CHARS = 512
_REASON_CHARS = 2_000
_ERROR_CHARS = 500
_HOOKS_CHARS = 16_384


class Asked(Struct, frozen=True, gc=False):
    """What the rows say of every call of one caller to one thing."""

    http_method: str
    method: str | None
    target: str | None
    subject: record.Subject
    scopes: record.Scopes


class Call(Struct):
    """One request. Fields that a step has not reached yet are None; `headers` are the client's, lower-case names.

    `method`, `target` (the tool, prompt or resource that is named), `rpc_id` and the two facts follow from the
    envelope, and are set with it by `take`. `rpc_id`: of a request, where there is one; a response's id is its
    server's. `is_long_lived`: the answer is a stream without a foreseeable end. `task` is the one that a `tasks/…`
    request is for, and `target` then the tool that it runs. `hidden` is what no row may show.

    What callers, servers and hooks wrote becomes a part of the row in `request` and `outcome` and nowhere else: there
    it is bounded, and secrets are taken out of it.
    """

    server_name: str
    http_method: str
    headers: tuple[tuple[bytes, bytes], ...]
    remote: str
    started: datetime
    execution_id: UUID
    begun_ns: int
    is_long_lived: bool
    is_tool_call: bool = False
    method: str | None = None
    target: str | None = None
    rpc_id: int | str | None = None
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
    task: Task | None = None
    body: bytes = b""
    is_recorded: bool = False
    trace_id: str | None = None
    input: record.Payload | None = None
    contract: str | None = None
    hooks: tuple[dict[str, object], ...] = ()
    note: str | None = None
    hidden: Hidden = NOTHING
    asked: Asked | None = None
    recorded: record.Request | None = None
    recorded_for: Decision | None = None

    @classmethod
    def arrive(
        cls, server_name: str, http_method: str, headers: tuple[tuple[bytes, bytes], ...], remote: str
    ) -> "Call":
        """A request has arrived just now."""
        now = datetime.now(UTC)
        is_stream = http_method == "GET"
        return cls(server_name, http_method, headers, remote, now, execution_id(now), perf_counter_ns(), is_stream)

    def take(self, envelope: Envelope) -> None:
        """Take the message that the request carries, or what became of it."""
        self.envelope = envelope
        self.method = method = envelope.method
        self.rpc_id = None if envelope.kind is EnvelopeKind.RESPONSE else envelope.id
        self.is_tool_call = method == "tools/call"
        self.is_long_lived = self.http_method == "GET" or method in STREAM_METHODS
        params = envelope.params
        named = params.get("uri" if method == "resources/read" else "name") if params is not None else None
        self.target = named if isinstance(named, str) else None
        self.asked = self.recorded = None

    def late(self, envelope: Envelope | None) -> "Call":
        """Return the same caller's record of an answer that arrives on another stream than its request's."""
        late = Call.arrive(self.server_name, self.http_method, self.headers, self.remote)
        for name in _KEPT_WHEN_LATE:
            setattr(late, name, getattr(self, name))
        if envelope is not None:
            late.take(envelope)
        return late

    def header(self, name: bytes) -> bytes | None:
        """Return the first header of that lower-case name."""
        values = index_of(self.headers).get(name)
        return values[0] if values is not None else None

    def request(self) -> record.Request:
        """What intent and row say about the request: the same object, as long as nothing of it has changed."""
        known = self.recorded
        if known is not None and self._is_told_by(known):
            return known
        asked = self.asking()
        self.recorded = made = record.Request(
            execution_id=self.execution_id,
            server=self.server_name if self.server is not None else told(self.server_name, _NAME_CHARS),
            started=self.started,
            http_method=asked.http_method,
            method=asked.method,
            tool=asked.target,
            subject=asked.subject,
            audience=self.audience,
            scopes=asked.scopes,
            session=self.session_id,
            protocol_version=self.protocol_version,
            trace_id=self.trace_id,
            remote=self.remote,
            input=self.input,
        )
        return made

    def asking(self) -> Asked:
        """Who asks for what, as rows tell it: the same object, as long as method, target and decision are the same."""
        decision = self.decision
        if self.asked is None or self.recorded_for is not decision:
            self.recorded_for = decision
            self.asked = Asked(
                http_method=told(self.http_method, _NAME_CHARS),
                method=self._name(self.method),
                target=self._name(self.target),
                subject=self._subject(),
                scopes=record.Scopes(decision.required, decision.held, decision.matched) if decision else _NO_SCOPES,
            )
        return self.asked

    def _is_told_by(self, known: record.Request) -> bool:
        return (
            known.session == self.session_id
            and known.input is self.input
            and known.protocol_version == self.protocol_version
            and known.execution_id is self.execution_id
            and self.recorded_for is self.decision
        )

    def _name(self, text: str | None) -> str | None:
        return told(text, _NAME_CHARS, self.hidden) if text is not None else None

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
        """How the request ended, as of now; texts as they came: what a row tells of them is cut out here."""
        wrong, hidden = error if error is not None else self.note, self.hidden
        return record.Outcome(
            status=status,
            decision=code,
            reason=told(reason, _REASON_CHARS, hidden),
            http_status=http_status,
            completed=datetime.now(UTC),
            duration_us=(perf_counter_ns() - self.begun_ns) // 1000,
            upstream_us=upstream_us,
            output=output,
            contract=self.contract,
            artifact=self.decision.artifact if self.decision else None,
            error=told(wrong, _ERROR_CHARS, hidden) if wrong is not None else None,
            events=events,
            hooks=tuple(told_all(self.hooks, _HOOKS_CHARS, hidden)) if self.hooks else (),
        )
