"""The way of a request up to the executor: each step admits or refuses, and a refusal is a value.

route ─▶ door ─▶ wire ─▶ auth ─▶ authorize ─▶ session ─▶ tasks ─▶ room       then  executor.execute
    └──────┴───────┴───────┴─────────┴───────────┴─────────┴───────┴──────▶  executor.refuse

Of a call like an earlier one from the same head `familiar` knows what wire, auth and authorize would say.
"""

import logging
from collections.abc import Mapping, Sequence
from time import time
from typing import Protocol

from proxy import errors
from proxy.auth.assertion import Presented
from proxy.auth.credential import query_has_token
from proxy.call import Call
from proxy.door import Door
from proxy.errors import Refusal
from proxy.exchange import BodyTooLargeError, BrokenRequestError, ClientGoneError, Exchange
from proxy.executor import Executor
from proxy.familiar import recognise, remember
from proxy.routes import Route
from proxy.sessions.binding import bind_session, expect_answer
from proxy.sessions.store import Sessions
from proxy.tasks.binding import bind_tasks, names_tasks
from proxy.wire.era import Era, classify, without_removed
from proxy.wire.fields import Fields
from proxy.wire.headers import check_headers
from proxy.wire.jsonrpc import WireFault, parse_envelope
from proxy.wire.trace import trace_of_header, trace_of_params

_UNKNOWN_SERVER = Refusal("route.unknown_server", 404, errors.METHOD_NOT_FOUND, "there is no such server")
_log = logging.getLogger("postern.pipeline")
_METHODS = frozenset({"POST", "GET", "DELETE"})


class Availability(Protocol):
    """Says why a server cannot be called now, None if it can; and what it speaks, as far as somebody has looked."""

    def why_not(self, server: str) -> str | None: ...
    def versions_of(self, server: str) -> Sequence[str]: ...


class Pipeline:
    """Admits or refuses. Holds no upstream and writes no rows."""

    def __init__(
        self,
        routes: Mapping[str, Route],
        door: Door,
        sessions: Sessions,
        availability: Availability,
        executor: Executor,
    ) -> None:
        self._routes = routes
        self._door = door
        self._sessions = sessions
        self._availability = availability
        self._executor = executor

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request for an MCP server."""
        headers = Fields.of(exchange.headers)
        client = self._door.forwarders.client_of(exchange.remote, headers)
        call = Call.arrive(_server_name(exchange.path), exchange.method, headers, client)
        call.trace_id = trace_of_header(headers.by_name)
        try:
            admitted = await self._admit(exchange, call)
            if isinstance(admitted, Refusal):
                await self._executor.refuse(exchange, call, admitted)
            elif exchange.method == "OPTIONS":
                await self._executor.preflight(exchange, call, self._door.preflight(call.headers))
            else:
                await self._executor.execute(exchange, call, admitted)
        except ClientGoneError:
            await self._executor.note_gone(call)
        except Exception:  # noqa: BLE001  the outermost loop of a request: a defect of ours must leave a row, too
            _log.exception("execution %s met a defect", call.execution_id)
            await self._executor.note_defect(exchange, call)
        self._executor.count_answer(exchange, call)

    async def refuse_malformed(self, exchange: Exchange, status: int, reason: str) -> None:
        """Answer what names an MCP address and is no HTTP: two readers could see two requests in it."""
        call = Call.arrive(_server_name(exchange.path), exchange.method, Fields.of(()), exchange.remote)
        await self._executor.refuse(exchange, call, _malformed(reason, status))
        self._executor.count_answer(exchange, call)

    def adopt(self, door: Door) -> None:
        """Be called by other names from now on, after a reload."""
        self._door = door

    async def _admit(self, exchange: Exchange, call: Call) -> Route | Refusal:
        route = self._routes.get(exchange.path)
        if route is None:
            return _UNKNOWN_SERVER
        call.server, call.audience, call.hidden = route.server, route.audience, route.hidden
        entry = self._door.enter(call.headers)
        if refusal := entry.refusal or _refuse_query_token(exchange.query):
            return refusal
        if entry.cors:
            exchange.add_headers(entry.cors)
        if exchange.method == "OPTIONS":
            return route
        if refusal := await _read(exchange, call, route):
            return refusal
        envelope, policy = call.envelope, route.policy
        if envelope is None or not recognise(call, envelope, policy):
            refusal = await self._find_out(exchange, call, route)
        elif call.era is Era.LEGACY:
            refusal = await bind_session(call, route.server, policy, self._sessions)
        return (
            refusal
            or self._find_room(call, route)
            or (await expect_answer(call, self._sessions) if call.era is Era.LEGACY else None)
            or (None if route.guard.admits(call) else await route.guard.before(call))
            or route
        )

    async def _find_out(self, exchange: Exchange, call: Call, route: Route) -> Refusal | None:
        """Find out what is asked, by whom, and whether it may be."""
        policy = route.policy
        if refusal := (
            _understand(call, self._availability.versions_of(route.server.name))
            or await _authenticate(exchange, call, route)
            or _authorize(call, route)
        ):
            return refusal
        if call.envelope is not None:
            remember(call, call.envelope, policy, route.auth)
        return (
            (await bind_session(call, route.server, policy, self._sessions) if call.era is Era.LEGACY else None)
            or (await bind_tasks(call, policy, self._sessions.tasks) if names_tasks(call) else None)
            or route.states.receive(call)
        )

    def _find_room(self, call: Call, route: Route) -> Refusal | None:
        if why := self._availability.why_not(route.server.name):
            reason = f"server {route.server.name} cannot be called now: {why}"
            return Refusal("route.unavailable", 503, errors.UNAVAILABLE, reason, ((b"retry-after", b"2"),))
        if route.load.running >= route.server.limits.concurrency and not call.is_long_lived:
            reason = f"server {route.server.name} has {route.load.running} calls in flight"
            return Refusal("limit.concurrency", 503, errors.UNAVAILABLE, reason, ((b"retry-after", b"1"),))
        return None


def _malformed(reason: str, status: int) -> Refusal:
    return Refusal("wire.http", status, errors.INVALID_REQUEST, reason)


def _server_name(path: str) -> str:
    return path.split("/", 2)[1][:63]


def _refuse_query_token(query: bytes) -> Refusal | None:
    if not query_has_token(query):
        return None
    return Refusal("auth.token_in_query", 401, errors.UNAUTHENTICATED, "a token never belongs in the query string")


async def _read(exchange: Exchange, call: Call, route: Route) -> Refusal | None:
    """Read the request: its one JSON object."""
    limits = route.server.limits
    if exchange.method not in _METHODS:
        allow = ((b"allow", b"POST, GET, DELETE"),)
        return Refusal("wire.method", 405, errors.INVALID_REQUEST, f"{exchange.method[:16]} is not used in MCP", allow)
    try:
        call.body = body = await exchange.read_body(limits.body_bytes)
    except BodyTooLargeError:
        return Refusal("limit.body", 413, errors.TOO_LARGE, f"the body exceeds {limits.body_bytes} bytes")
    except BrokenRequestError as error:
        return _malformed(str(error), 400)
    if exchange.method == "POST":
        envelope = parse_envelope(body, max_depth=limits.depth)
        if isinstance(envelope, WireFault):
            call.rpc_id = envelope.id
            return _refusal_of(envelope)
        call.take(envelope)
        call.trace_id = trace_of_params(envelope.params) or call.trace_id
        call.input = route.snapshot_input(call, body)
    return None


def _understand(call: Call, spoken: Sequence[str]) -> Refusal | None:
    """Classify the era, and check the headers that mirror the body. `spoken`: by the server, where that is known."""
    found = classify(call.headers, call.envelope, spoken=spoken)
    if isinstance(found, WireFault):
        return _refusal_of(found)
    call.era, call.protocol_version = found.era, found.version
    if call.http_method != "POST" and call.era is Era.MODERN:
        reason = "the 2026-07-28 protocol knows POST only"
        return Refusal("wire.method", 405, errors.INVALID_REQUEST, reason, ((b"allow", b"POST"),))
    if call.envelope is not None:
        known = without_removed(call.envelope, call.era)
        if known is not call.envelope:
            call.take(known)
        if fault := check_headers(call.headers, known, call.era):
            return _refusal_of(fault)
    return None


async def _authenticate(exchange: Exchange, call: Call, route: Route) -> Refusal | None:
    presented = Presented(exchange.method, exchange.path, exchange.query, call.headers, call.body)
    found = await route.auth.authenticate(call.headers, time(), presented)
    if isinstance(found, Refusal):
        return found
    call.identity = found
    return None


def _authorize(call: Call, route: Route) -> Refusal | None:
    if call.identity is None or call.era is None:
        return None
    call.decision = route.policy.decide(call.identity, call.http_method, call.envelope, call.era)
    if call.decision.allowed:
        return None
    return route.policy.refusal(call.decision, call.era)


def _refusal_of(fault: WireFault) -> Refusal:
    return Refusal(fault.code, fault.status, fault.jsonrpc_code, fault.message, (), fault.data)
