"""The only code that forwards a request, writes its row, and answers (SPEC A1).

    refuse   row ─▶ answer
    execute  [intent ─▶] upstream ─▶ row ─▶ answer          (one `Execution` per call)

An answer is released after the commit of its row. The one exception is the answer which says that nothing can be
committed (SPEC A4). What a stream carries before its last event (progress, server requests) may flow earlier.
"""

import logging
from collections.abc import Awaitable, Mapping, Sequence
from time import monotonic
from typing import Protocol

from proxy.answers import execution_header, refusal_body, refusal_headers
from proxy.audit.errors import AuditUnavailable
from proxy.audit.limits import Counters
from proxy.audit.record import Intent, Outcome, Row, Status
from proxy.audit.redact import told
from proxy.auth.identity import Anonymous
from proxy.call import Call
from proxy.errors import INTERNAL_ERROR, UNAVAILABLE, Refusal
from proxy.exchange import Exchange, Header
from proxy.execution.ends import SessionLostError
from proxy.execution.execution import Execution
from proxy.execution.relay import MOST_VERSION_CHARS, agreed_version
from proxy.floods import Floods, Told, too_many
from proxy.roads import BridgeTokenMissingError, Road
from proxy.routes import Route
from proxy.sessions.live import Live
from proxy.sessions.rebuild import Rebuilder, discard
from proxy.sessions.store import Ended, Session, Sessions, SessionStoreUnavailableError, owner_of
from proxy.tasks.wire import ACTS_ON_ONE
from proxy.upstream import UpstreamError, UpstreamPool, UpstreamUnreachable
from registry.models import AuditSettings

_AWAY = AuditUnavailable("the audit store is not reachable")
_GONE = Told("client.left", "the client left before its request was whole", Status.CANCELLED, 499)
_log = logging.getLogger("postern.executor")


class AuditSink(Protocol):
    """Where rows become durable. What both return is done after the commit, or raises `AuditUnavailable`."""

    @property
    def healthy(self) -> bool: ...
    @property
    def counters(self) -> Counters: ...
    def write_intent(self, intent: Intent) -> Awaitable[None]: ...
    def write_row(self, row: Row) -> Awaitable[None]: ...


class Executor:
    """Records every request, forwards admitted ones, answers all. One per worker."""

    def __init__(
        self, audit: AuditSink, roads: Mapping[str, Road], sessions: Sessions, settings: AuditSettings
    ) -> None:
        self._audit = audit
        self._roads = roads
        self.sessions = sessions
        self.live = Live()
        self._rebuilder = Rebuilder(sessions)
        self._settings = settings
        self._floods = Floods(settings.refusals_per_source, settings.refusals_window_s, self._record_shared)
        self.in_flight = 0

    async def refuse(self, exchange: Exchange, call: Call, refusal: Refusal) -> None:
        """Record that the request is denied, then say so; a flood of refusals shares rows (SPEC A7)."""
        if self._floods.is_over(call, monotonic()):
            row_id, committed = await self._floods.hold(call, Told(refusal.code, refusal.reason))
            call.execution_id = row_id
            shared = too_many(refusal, self._settings.refusals_window_s) if committed else _unaudited(_AWAY)
            await _say(exchange, call, shared)
            return
        outcome = call.outcome(Status.DENIED, refusal.code, refusal.reason, refusal.status)
        if await self.record(exchange, call, outcome):
            await _say(exchange, call, refusal)

    async def preflight(self, exchange: Exchange, call: Call, headers: Sequence[Header]) -> None:
        """Record and answer a CORS preflight, which never reaches a server."""
        outcome = call.outcome(Status.SUCCESS, "cors.preflight", "preflight answered by the proxy", 204)
        if await self.record(exchange, call, outcome):
            await exchange.answer(204, [*headers, execution_header(call.execution_id)], b"")

    async def note_gone(self, call: Call) -> None:
        """Record a client that left before its request was whole; many of one source share rows, as refusals do."""
        if self._floods.is_over(call, monotonic()):
            await self._floods.hold(call, _GONE)
            return
        await self.record(None, call, call.outcome(_GONE.status, _GONE.code, _GONE.reason, _GONE.http_status))

    async def note_defect(self, exchange: Exchange, call: Call) -> None:
        """Record a request that a defect of ours has ended; the log has the traceback, the caller the execution id."""
        refusal = Refusal("proxy.defect", 500, INTERNAL_ERROR, "the proxy met a defect; its log knows this execution")
        outcome = call.outcome(Status.FAILED, refusal.code, refusal.reason, refusal.status, error=refusal.reason)
        if await self.record(None if exchange.has_begun else exchange, call, outcome) and not exchange.has_begun:
            await _say(exchange, call, refusal)

    async def execute(self, exchange: Exchange, call: Call, route: Route) -> None:
        """Forward an admitted call, record its outcome, then release the answer.

        While the store is away every call needs an intent: none can be committed, and the refusal's row is owed.
        """
        acts = call.is_tool_call or call.is_long_lived or call.method in ACTS_ON_ONE
        needs_intent = acts or not self._audit.healthy
        try:
            if needs_intent:
                await self._audit.write_intent(Intent(call.request()))
        except AuditUnavailable as error:
            await _unrecorded(exchange, call, error)
            return
        running = 0 if call.is_long_lived else 1
        self.in_flight += 1
        route.load.running += running
        try:
            await Execution(self, exchange, call, route, intended=needs_intent).run()
        finally:
            route.load.running -= running
            self.in_flight -= 1

    async def intend(self, call: Call) -> bool:
        """Commit the intent of a request that began without one; False if that cannot be done (SPEC A3, A4)."""
        try:
            await self._audit.write_intent(Intent(call.request()))
        except AuditUnavailable as error:
            return await _unrecorded(None, call, error)
        return True

    async def _record_shared(self, call: Call, outcome: Outcome) -> bool:
        return await self.record(None, call, outcome)

    async def record(self, exchange: Exchange | None, call: Call, outcome: Outcome) -> bool:
        """Commit the row; if that cannot be done say so on `exchange` and return False."""
        try:
            await self._audit.write_row(Row(call.request(), outcome))
        except AuditUnavailable as error:
            return await _unrecorded(exchange, call, error)
        call.is_recorded = True
        return True

    def count_answer(self, exchange: Exchange, call: Call) -> None:
        """Count an answer that left after its row, so that `postern audit gaps` can hold answers against rows."""
        if exchange.has_begun and call.is_recorded:
            self._audit.counters.answered += 1

    def upstream(self, call: Call) -> UpstreamPool:
        """Return the road of the call's server: long-lived streams must not take the places of calls."""
        road = self._roads[call.server_name]
        return road.streams if call.is_long_lived else road.pool

    def credentials(self, call: Call) -> tuple[Header, ...]:
        """Return what the proxy itself presents to the call's server."""
        try:
            return self._roads[call.server_name].credentials(owner_of(call.identity or Anonymous()))
        except BridgeTokenMissingError as error:
            raise UpstreamUnreachable(str(error)) from error

    async def open_session(self, call: Call, route: Route, upstream_id: str, message: dict[str, object]) -> Session:
        """Keep the session that an initialize has opened; durable on return, else the server is told to drop it."""
        params = (call.envelope.params if call.envelope is not None else None) or {}
        call.protocol_version = told(agreed_version(message, params), MOST_VERSION_CHARS, call.hidden)
        who = call.identity or Anonymous()
        try:
            session = await self.sessions.create(route.server, who, upstream_id, call.protocol_version, params)
        except SessionStoreUnavailableError:
            await self.discard_session(Ended("", call.server_name, owner_of(who), upstream_id, call.protocol_version))
            raise
        call.session, call.session_id = session, session.id
        return session

    async def rebuild_session(self, call: Call, session: Session, route: Route) -> Session:
        """Open the upstream session again; raise `SessionLostError` where that is switched off or fails."""
        if route.server.sessions.rebuild:
            return await self._rebuilder.rebuild(session, self._roads[session.server].pool, self.credentials(call))
        await self.sessions.end(session, "lost")
        raise SessionLostError("the server has lost this session, and it cannot be rebuilt: initialize again")

    async def discard_session(self, ended: Ended) -> None:
        """Tell a server that one of its sessions is over; where it cannot be told, it will find out by itself."""
        road = self._roads.get(ended.server)
        if road is None:
            return
        try:
            await discard(ended.upstream_id, ended.protocol_version, road.pool, road.credentials(ended.owner))
        except (UpstreamError, BridgeTokenMissingError) as error:
            _log.info("server %s cannot be told that a session is over: %s", ended.server, error)


async def _unrecorded(exchange: Exchange | None, call: Call, error: AuditUnavailable) -> bool:
    _log.error("execution %s cannot be recorded: %s", call.execution_id, error)
    if exchange is not None:
        await _say(exchange, call, _unaudited(error))
    return False


async def _say(exchange: Exchange, call: Call, refusal: Refusal) -> None:
    """Answer with a refusal whose row is committed, or cannot be."""
    body = refusal_body(refusal, call.rpc_id, call.execution_id)
    await exchange.answer(refusal.status, refusal_headers(refusal, call.execution_id), body)


def _unaudited(error: AuditUnavailable) -> Refusal:
    retry = (b"retry-after", b"%d" % max(1, round(error.retry_after_s)))
    return Refusal("audit.unavailable", 503, UNAVAILABLE, "no answer without an audit row", (retry,))
