"""HTTP of the 2026-07-28 era: one POST is one request, nothing is remembered between two of them."""

from typing import Final, cast

from proxy.bridge.era import NotModern
from proxy.bridge.exchange import Exchange, failure_of
from proxy.bridge.frames import JsonObject
from proxy.bridge.replies import Answer, Answering, Failure
from proxy.bridge.residents import CLOSING, Resident, Residents
from proxy.bridge.stream import Stream
from proxy.errors import INVALID_REQUEST, METHOD_NOT_FOUND
from proxy.wire.era import UNSUPPORTED_VERSION, Era
from proxy.wire.headers import check_headers, check_params
from proxy.wire.jsonrpc import Envelope, EnvelopeKind
from proxy.wire.params import PREFIX

PRINCIPAL_HEADER: Final = b"x-postern-principal"
# As long as the SDK waits: an answer without notifications keeps its HTTP status, longer silence needs pings.
_ANSWERING: Final = Answering(commit_after_s=15.0, ping_s=15.0)
_ONLY_POST: Final = Failure(405, INVALID_REQUEST, "only POST in this era", headers=((b"allow", b"POST"),))
# A stdio server of both eras says -32022 here; over HTTP the method is one that does not exist.
_NO_HANDSHAKE: Final = Failure(404, METHOD_NOT_FOUND, "initialize is not a method of this era")
_NO_PRINCIPAL: Final = Failure(400, INVALID_REQUEST, f"{PRINCIPAL_HEADER.decode()} must be there once")


class ModernEndpoint:
    """Answers the requests of this era through the residents."""

    def __init__(self, residents: Residents, *, is_shared: bool) -> None:
        self._residents = residents
        self._is_shared = is_shared

    async def refuse_other_methods(self, exchange: Exchange) -> None:
        await exchange.refuse(_ONLY_POST)

    async def post(self, exchange: Exchange, envelope: Envelope, version: str) -> None:
        """Answer a message whose `_meta` and version have been found right."""
        fault = check_headers(exchange.headers, envelope, Era.MODERN)
        if fault is not None:
            await exchange.refuse(failure_of(fault))
        elif envelope.kind is not EnvelopeKind.REQUEST:
            # The era defines no client notification over HTTP, and an id in one proves nothing: not passed on.
            await exchange.accept()
        elif envelope.method == "initialize":
            await exchange.refuse(_NO_HANDSHAKE)
        else:
            await self._call(exchange, envelope, version)

    async def _call(self, exchange: Exchange, envelope: Envelope, version: str) -> None:
        resident = await self._resident(exchange, version)
        if isinstance(resident, Resident):
            resident = await _refuse_parameters(exchange, envelope, resident) or resident
        if isinstance(resident, Failure):
            await exchange.refuse(resident)
        else:
            await _relay(exchange, envelope, resident)

    async def _resident(self, exchange: Exchange, version: str) -> Resident | Failure:
        principals = exchange.values(PRINCIPAL_HEADER)
        if not self._is_shared and len(principals) != 1:
            return _NO_PRINCIPAL
        found = await self._residents.find("" if self._is_shared else principals[0])
        if isinstance(found, NotModern):
            data = {"supported": list(found.supported), "requested": version}
            return Failure(400, UNSUPPORTED_VERSION, "Unsupported protocol version", data)
        return found


async def _refuse_parameters(exchange: Exchange, envelope: Envelope, resident: Resident) -> Failure | None:
    """What is wrong between `Mcp-Param-*` and the arguments, by the schema of the tool as the child lists it."""
    params = envelope.params or {}
    tool: object = params.get("name")
    if envelope.method != "tools/call" or not isinstance(tool, str):
        return None
    if not params.get("arguments") and not any(name.startswith(PREFIX) for name, _ in exchange.headers):
        return None
    link = resident.link
    if link is None:
        return CLOSING
    declared = await resident.catalogue.declared(link, tool, cast("JsonObject", params["_meta"]))
    fault = check_params(exchange.headers, envelope, declared)
    return failure_of(fault) if fault else None


async def _relay(exchange: Exchange, envelope: Envelope, resident: Resident) -> None:
    """Send the call and write what comes; a client that leaves cancels it."""
    stream = Stream("call", is_replayable=False)
    link = resident.link
    ticket = CLOSING if link is None else link.call(envelope.message, stream)
    if link is None or isinstance(ticket, Failure):
        await exchange.refuse(cast("Failure", ticket))
        return
    try:
        await Answer(exchange.send, exchange.receive, stream, _ANSWERING).write()
    finally:
        link.cancel(ticket, "the client closed the response stream")
