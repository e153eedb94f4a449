"""Many clients on one child: ids, progress tokens and subscription ids translated there and back. Pure.

Every request gets a number of ours, unique for the life of the child and never used twice; its progress token, if it
has one, becomes the same number. What comes back is matched by that number and gets the client's own value again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast

from proxy.bridge.frames import JsonObject, Kind, RequestId, is_request_id, kind_of

SUBSCRIPTION_ID_KEY: Final = "io.modelcontextprotocol/subscriptionId"
LISTEN_METHOD: Final = "subscriptions/listen"

Sink = TypeVar("Sink")


@dataclass(frozen=True, slots=True, eq=False)
class Ticket(Generic[Sink]):
    """One request in flight: the child's number for it, the client's own values, and where its messages go."""

    number: int
    client_id: RequestId
    method: str
    token: RequestId | None
    sink: Sink


@dataclass(frozen=True, slots=True)
class Related(Generic[Sink]):
    """A message for one request; `is_last` when nothing more will come for it."""

    ticket: Ticket[Sink]
    message: JsonObject
    is_last: bool


@dataclass(frozen=True, slots=True)
class Unrelated:
    """A message that names no request of ours: a request of the server, or a notification without correlation."""

    message: JsonObject
    kind: Kind


@dataclass(frozen=True, slots=True)
class Stray:
    """Nothing to deliver: a late answer, a malformed message."""

    reason: str


Routed: TypeAlias = Related[Sink] | Unrelated | Stray


class Multiplexer(Generic[Sink]):
    """The tickets of one child. `is_modern` decides what a `notifications/cancelled` from the server refers to."""

    def __init__(self, *, is_modern: bool) -> None:
        self._is_modern = is_modern
        self._next_number = 1
        self._tickets: dict[int, Ticket[Sink]] = {}

    def __len__(self) -> int:
        return len(self._tickets)

    @property
    def tickets(self) -> Iterable[Ticket[Sink]]:
        return tuple(self._tickets.values())

    def admit(self, request: JsonObject, sink: Sink) -> tuple[Ticket[Sink], JsonObject]:
        """Return a ticket and the request as the child shall see it. The original is left alone."""
        number = self._next_number
        self._next_number += 1
        token, params = _with_token(request.get("params"), number)
        outgoing = request | {"id": number}
        if params is not None:
            outgoing["params"] = params
        ticket = Ticket(number, cast("RequestId", request["id"]), cast("str", request["method"]), token, sink)
        self._tickets[number] = ticket
        return ticket, outgoing

    def retire(self, number: int) -> Ticket[Sink] | None:
        """Forget a request; what still comes for it is stray."""
        return self._tickets.pop(number, None)

    def of_client_id(self, client_id: RequestId) -> Ticket[Sink] | None:
        """Find the request in flight that the client calls by this id; 1 and "1" are different ids."""
        for ticket in self._tickets.values():
            if ticket.client_id == client_id and isinstance(ticket.client_id, str) == isinstance(client_id, str):
                return ticket
        return None

    def only_call(self) -> Ticket[Sink] | None:
        """Find the one call in flight that a message without correlation can belong to, if there is exactly one."""
        calls = [ticket for ticket in self._tickets.values() if ticket.method != LISTEN_METHOD]
        return calls[0] if len(calls) == 1 else None

    def route(self, message: JsonObject) -> Routed[Sink]:
        """Where a message of the child belongs, with the client's own values put back."""
        match kind_of(message):
            case Kind.RESPONSE:
                return self._route_response(message)
            case Kind.NOTIFICATION:
                return self._route_notification(message)
            case Kind.REQUEST:
                return Unrelated(message, Kind.REQUEST)
            case None:
                return Stray("not a JSON-RPC message")

    def _route_response(self, message: JsonObject) -> Routed[Sink]:
        ticket = self._ticket(message["id"])
        if ticket is None:
            return Stray(f"answer to a request that is not in flight: {message['id']!r:.80}")
        del self._tickets[ticket.number]
        answer = message | {"id": ticket.client_id}
        if "result" in answer:
            answer["result"] = _with_subscription(answer["result"], ticket.client_id)
        return Related(ticket, answer, is_last=True)

    def _route_notification(self, message: JsonObject) -> Routed[Sink]:
        params = cast("JsonObject", message.get("params") or {})
        if message["method"] == "notifications/progress":
            return self._route_progress(message, params)
        meta: object = params.get("_meta")
        if isinstance(meta, dict) and SUBSCRIPTION_ID_KEY in meta:
            return self._route_subscription(message, params, cast("JsonObject", meta)[SUBSCRIPTION_ID_KEY])
        if self._is_modern and message["method"] == "notifications/cancelled":
            return self._route_teardown(message, params)
        return Unrelated(message, Kind.NOTIFICATION)

    def _route_progress(self, message: JsonObject, params: JsonObject) -> Routed[Sink]:
        ticket = self._ticket(params.get("progressToken"))
        if ticket is None or ticket.token is None:
            return Stray("progress for a request that is not in flight")
        return Related(ticket, message | {"params": params | {"progressToken": ticket.token}}, is_last=False)

    def _route_subscription(self, message: JsonObject, params: JsonObject, number: object) -> Routed[Sink]:
        ticket = self._ticket(number)
        if ticket is None:
            return Stray("notification for a subscription that has ended")
        return Related(ticket, message | {"params": _with_subscription(params, ticket.client_id)}, is_last=False)

    def _route_teardown(self, message: JsonObject, params: JsonObject) -> Routed[Sink]:
        ticket = self._ticket(params.get("requestId"))
        if ticket is None:
            return Stray("cancellation of a request that is not in flight")
        del self._tickets[ticket.number]
        return Related(ticket, message | {"params": params | {"requestId": ticket.client_id}}, is_last=True)

    def _ticket(self, number: object) -> Ticket[Sink] | None:
        return self._tickets.get(number) if isinstance(number, int) and not isinstance(number, bool) else None


def _with_token(params: object, number: int) -> tuple[RequestId | None, JsonObject | None]:
    """Return the client's progress token, and the parameters with ours in its place."""
    if not isinstance(params, dict):
        return None, None
    known = cast("JsonObject", params)
    meta: Any = known.get("_meta")
    if not isinstance(meta, dict):
        return None, known
    token: object = cast("JsonObject", meta).get("progressToken")
    if not is_request_id(token):
        return None, known
    return token, known | {"_meta": cast("JsonObject", meta) | {"progressToken": number}}


def _with_subscription(holder: Any, client_id: RequestId) -> Any:
    """Put the client's own id in as the subscription id, where there is one."""
    if not isinstance(holder, dict):
        return cast("object", holder)
    known = cast("JsonObject", holder)
    meta: Any = known.get("_meta")
    if not isinstance(meta, dict) or SUBSCRIPTION_ID_KEY not in meta:
        return known
    return known | {"_meta": cast("JsonObject", meta) | {SUBSCRIPTION_ID_KEY: client_id}}
