"""Calls like one that was admitted before: what head and tool lead to is found out once.

A client that keeps its connection sends the same head again, byte for byte, and calls the same tool with the same
`_meta`. Then era, headers against body, caller and decision are those of the call before; the arguments have no say in
them. What they have a say in, and what changes with time (the session, the room, the contract), is looked at every
time.
"""

from time import time

from msgspec import Struct

from proxy.audit.hidden import Hidden
from proxy.auth.bearer import ServerAuth
from proxy.auth.cache import Verified
from proxy.authorize import Decision, Policy
from proxy.call import Asked, Call
from proxy.tasks.wire import related_to
from proxy.wire.era import Era
from proxy.wire.fields import Fields
from proxy.wire.jsonrpc import Envelope
from proxy.wire.params import PREFIX

_PLAIN = frozenset({"name", "arguments", "_meta"})
"""Parameters without a task and without a state, of which both would have to be looked at."""


class Familiar(Struct, frozen=True):
    """What an admitted call was found to be. `members` counts its parameters."""

    verified: Verified
    decision: Decision
    era: Era
    protocol_version: str | None
    members: int
    meta: object
    hidden: Hidden
    asked: Asked


def recognise(call: Call, envelope: Envelope, policy: Policy) -> bool:
    """Fill in what is known of a call that is like an earlier one of the same head; False where none was.

    Equal to Python may be different in JSON (1, 1.0, true), but never where it matters: nothing that was decided rests
    on a number.
    """
    headers, params = call.headers, envelope.params
    if params is None or not call.is_tool_call or not isinstance(headers, Fields):
        return False
    known: Familiar | None = headers.facts.get((policy, call.target))
    if known is None or len(params) != known.members or params.get("_meta") != known.meta:
        return False
    if len(params) == len(_PLAIN) and "arguments" not in params:
        return False
    if time() >= known.verified.until or known.hidden is not call.hidden:
        return False
    call.era, call.protocol_version = known.era, known.protocol_version
    call.identity, call.decision = known.verified.identity, known.decision
    call.asked, call.recorded_for = known.asked, known.decision
    return True


def remember(call: Call, envelope: Envelope, policy: Policy, auth: ServerAuth) -> None:
    """Keep what an authorized call was found to be, where the next one like it can be told by its head and `_meta`."""
    headers, params, era, decision = call.headers, envelope.params, call.era, call.decision
    if not isinstance(headers, Fields) or params is None or era is None or decision is None or not call.is_tool_call:
        return
    is_plain = params.keys() <= _PLAIN and related_to(params) is None
    verified = auth.verified(headers, time()) if is_plain else None
    if verified is None or verified.identity is not call.identity:
        return
    if any(name.startswith(PREFIX) for name in headers.by_name):
        return  # headers that mirror arguments
    known = Familiar(
        verified=verified,
        decision=decision,
        era=era,
        protocol_version=call.protocol_version,
        members=len(params),
        meta=params.get("_meta"),
        hidden=call.hidden,
        asked=call.asking(),
    )
    headers.learn((policy, call.target), known)
