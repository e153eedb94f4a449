"""HTTP of the 2026-07-28 era: one POST is one request, nothing is remembered between two of them."""

from typing import Final, cast

from proxy.bridge.era import NotModern
from proxy.bridge.exchange import Exchange
from proxy.bridge.frames import JsonObject, Kind, kind_of
from proxy.bridge.headers import VERSION_HEADER, envelope_of, refuse_request, refuse_version, unsupported_version
from proxy.bridge.parameters import PREFIX, refuse_parameters
from proxy.bridge.replies import Answer, Answering, Failure
from proxy.bridge.residents import CLOSING, Resident, Residents
from proxy.bridge.stream import Stream
from proxy.errors import INVALID_REQUEST, METHOD_NOT_FOUND

PRINCIPAL_HEADER: Final = "x-postern-principal"
# As long as the SDK waits: an answer without notifications keeps its HTTP status, longer silence needs pings.
_ANSWERING: Final = Answering(commit_after_s=15.0, ping_s=15.0)
_ONLY_POST: Final = Failure(405, INVALID_REQUEST, "only POST in this era", headers=((b"allow", b"POST"),))
_NOT_A_CALL: Final = Failure(400, INVALID_REQUEST, "the body must be one JSON-RPC request or notification")
# A stdio server of both eras says -32022 here; over HTTP the method is one that does not exist.
_NO_HANDSHAKE: Final = Failure(404, METHOD_NOT_FOUND, "initialize is not a method of this era")
_NO_PRINCIPAL: Final = Failure(400, INVALID_REQUEST, f"{PRINCIPAL_HEADER} must be there once")


class ModernEndpoint:
    """Answers the requests of this era through the residents."""

    def __init__(self, residents: Residents, *, is_shared: bool) -> None:
        self._residents = residents
        self._is_shared = is_shared

    async def answer(self, exchange: Exchange) -> None:
        if exchange.method != "POST":
            await exchange.refuse(_ONLY_POST)
            return
        message = await exchange.read_message()
        if message is None:
            return
        match kind_of(message):
            case Kind.NOTIFICATION:
                # The era defines no client notification over HTTP, and an id in one proves nothing: not passed on.
                failure = refuse_version(exchange.headers.get(VERSION_HEADER) or "")
                await (exchange.refuse(failure) if failure else exchange.accept())
            case Kind.REQUEST:
                await self._call(exchange, message)
            case Kind.RESPONSE | None:
                await exchange.refuse(_NOT_A_CALL)

    async def _call(self, exchange: Exchange, message: JsonObject) -> None:
        failure = refuse_request(message, exchange.headers)
        if failure is None and message["method"] == "initialize":
            failure = _NO_HANDSHAKE
        resident = failure or await self._resident(exchange)
        if isinstance(resident, Resident):
            resident = await _refuse_parameters(exchange, message, resident) or resident
        if isinstance(resident, Failure):
            await exchange.refuse(resident)
        else:
            await _relay(exchange, message, resident)

    async def _resident(self, exchange: Exchange) -> Resident | Failure:
        principals = exchange.headers.lines(PRINCIPAL_HEADER)
        if not self._is_shared and len(principals) != 1:
            return _NO_PRINCIPAL
        found = await self._residents.find("" if self._is_shared else principals[0])
        if isinstance(found, NotModern):
            return unsupported_version(found.supported, exchange.headers.get(VERSION_HEADER) or "")
        return found


async def _refuse_parameters(exchange: Exchange, message: JsonObject, resident: Resident) -> Failure | None:
    params = cast("JsonObject", message["params"])
    tool, arguments = params.get("name"), params.get("arguments", {})
    if message["method"] != "tools/call" or not isinstance(tool, str) or not isinstance(arguments, dict):
        return None
    if not arguments and not any(name.startswith(PREFIX) for name in exchange.headers.names()):
        return None
    link = resident.link
    if link is None:
        return CLOSING
    wanted = await resident.catalogue.wanted(link, tool, envelope_of(message) or {})
    return refuse_parameters(wanted, cast("JsonObject", arguments), exchange.headers)


async def _relay(exchange: Exchange, message: JsonObject, resident: Resident) -> None:
    """Send the call and write what comes; a client that leaves cancels it."""
    stream = Stream("call", is_replayable=False)
    link = resident.link
    ticket = CLOSING if link is None else link.call(message, stream)
    if link is None or isinstance(ticket, Failure):
        await exchange.refuse(cast("Failure", ticket))
        return
    try:
        await Answer(exchange.send, exchange.receive, stream, _ANSWERING).write()
    finally:
        link.cancel(ticket, "the client closed the response stream")
