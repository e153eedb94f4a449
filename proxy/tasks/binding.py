"""A request and the tasks that it names: whose they are, and what the server calls them (SEC-16).

Whoever may not use a tool (any more) may not use its tasks either: each of them is authorized as the tool that it runs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from proxy import errors
from proxy.auth.identity import Anonymous, Identity
from proxy.authorize.decision import AuthzCode, Decision, Kind
from proxy.call import Call
from proxy.errors import Refusal
from proxy.execution.ends import store_away
from proxy.sessions.store import SessionStoreUnavailableError, owner_of
from proxy.tasks.store import NOBODY, Holder, Task, Tasks
from proxy.tasks.wire import ABOUT_ONE, EXTENSION, listened_in, related_to, takes_tasks, with_listened, with_related
from proxy.wire.era import Era
from proxy.wire.fields import Fields
from proxy.wire.header_value import encode_value
from proxy.wire.headers import NAME_HEADER
from proxy.wire.jsonrpc import Envelope, EnvelopeKind

UNDECLARED = Refusal(
    "task.undeclared",
    400,
    errors.MISSING_CAPABILITY,
    f"the request's _meta does not declare the extension {EXTENSION} among the client's capabilities",
    data={"requiredCapabilities": {"extensions": {EXTENSION: {}}}},
)


class Rules(Protocol):
    """Decides about the tools that tasks run."""

    def decide_thing(self, identity: Identity, kind: Kind, name: str) -> Decision: ...
    def refusal(self, decision: Decision, era: Era) -> Refusal: ...


def holder_of(call: Call) -> Holder:
    """Return to whom the call's tasks belong: its principal, of an anonymous one the session."""
    owner = owner_of(call.identity or Anonymous())
    return owner if owner != NOBODY else ("", "", call.session_id or "")


def names_tasks(call: Call) -> bool:
    """Whether a request is for tasks, or says that it is about one."""
    envelope = call.envelope
    if envelope is None:
        return False
    return envelope.method in ABOUT_ONE or envelope.method == "subscriptions/listen" or _related(envelope) is not None


async def bind_tasks(call: Call, rules: Rules, tasks: Tasks) -> Refusal | None:
    """Put the server's own ids in the place of ours; refuse a task that is not the caller's."""
    envelope, identity, era = call.envelope, call.identity, call.era
    if envelope is None or identity is None or era is None:
        return None
    try:
        if named := _named(envelope):
            return await _bind(call, envelope, named, rules, tasks)
        if (related := _related(envelope)) is not None:
            return await _relate(call, envelope, related, tasks)
    except SessionStoreUnavailableError as error:
        return store_away(error)
    return None


def _named(envelope: Envelope) -> Sequence[str]:
    """The tasks that a request is for; that their ids are strings has been decided before."""
    params = envelope.params or {}
    if envelope.method in ABOUT_ONE:
        return (params["taskId"],)
    return listened_in(params) if envelope.method == "subscriptions/listen" else ()


async def _bind(call: Call, envelope: Envelope, named: Sequence[str], rules: Rules, tasks: Tasks) -> Refusal | None:
    era, identity = call.era or Era.LEGACY, call.identity or Anonymous()
    if era is Era.MODERN and not takes_tasks(envelope):
        return UNDECLARED
    found = await tasks.find(call.server_name, holder_of(call), named)
    if not _all_own(named, found):
        return _unknown(call, found.values())
    for tool in dict.fromkeys(found[each].tool for each in named):
        decision = rules.decide_thing(identity, "tools", tool)
        call.decision = _both(call.decision, decision)
        if not decision.allowed:
            return rules.refusal(decision, era)
    _rewrite(call, envelope, [found[each] for each in named])
    return None


def _rewrite(call: Call, envelope: Envelope, tasks: Sequence[Task]) -> None:
    params = envelope.params or {}
    if envelope.method not in ABOUT_ONE:
        call.take(envelope.with_params(with_listened(params, [task.upstream_id for task in tasks])))
        return
    task = tasks[0]
    name = (NAME_HEADER, encode_value(task.upstream_id))
    call.headers = Fields.of(tuple(name if header[0] == NAME_HEADER else header for header in call.headers))
    call.take(envelope.with_params({**params, "taskId": task.upstream_id}))
    call.task, call.target = task, task.tool


def _related(envelope: Envelope) -> str | None:
    return related_to(envelope.message.get("result") if envelope.kind is EnvelopeKind.RESPONSE else envelope.params)


async def _relate(call: Call, envelope: Envelope, related: str, tasks: Tasks) -> Refusal | None:
    """A message about a task of the server, or about one of the client's own, whose id is nothing to us."""
    holder = holder_of(call)
    task = (await tasks.find(call.server_name, holder, (related,))).get(related)
    if task is None:
        foreign = await tasks.find_upstream(call.server_name, holder, (related,))
        return _unknown(call, foreign.values()) if foreign else None
    if not task.is_own:
        return _unknown(call, (task,))
    if envelope.kind is EnvelopeKind.RESPONSE:
        result = with_related(envelope.message["result"], task.upstream_id)
        call.envelope = envelope.with_result(result)
    else:
        call.take(envelope.with_params(with_related(envelope.params or {}, task.upstream_id)))
    return None


def _all_own(named: Iterable[str], found: Mapping[str, Task]) -> bool:
    return all(each in found and found[each].is_own for each in named)


def _unknown(call: Call, found: Iterable[Task]) -> Refusal:
    """One answer for every task that is not the caller's; the row knows which of the reasons it was.

    A legacy request is answered with 200, as its servers do; a notification and a response have nothing but the status.
    """
    told = (AuthzCode.UNKNOWN_TASK, "Unknown task")
    is_foreign = any(not task.is_own for task in found)
    reason = "the task is another caller's" if is_foreign else "there is no such task"
    status = 200 if call.era is Era.LEGACY and call.rpc_id is not None else 400
    return Refusal(AuthzCode.UNKNOWN_TASK, status, errors.INVALID_PARAMS, reason, told=told)


def _both(earlier: Decision | None, later: Decision) -> Decision:
    """Return the later decision with what the earlier one needed and matched, too."""
    if earlier is None:
        return later
    required = tuple(dict.fromkeys((*earlier.required, *later.required)))
    matched = tuple(dict.fromkeys((*earlier.matched, *later.matched)))
    return replace(later, required=required, matched=matched if later.allowed else later.matched)
