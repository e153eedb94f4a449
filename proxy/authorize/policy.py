"""The decision (SPEC I4 to I6, R6, R7): a caller, and what it asks for, against what is declared.

    method known? ─▶ server there for the agent? ─▶ thing declared? ─▶ declared for the agent? ─▶ scopes held? ─▶ yes

Existence comes before scopes: what is not there is never a missing scope, because no scope could bring it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from proxy.auth.challenges import Challenges
from proxy.auth.identity import Anonymous, Authenticated, Identity
from proxy.auth.metadata import url_of
from proxy.authorize.agents import AgentView
from proxy.authorize.decision import AuthzCode, Decision, Kind, shown
from proxy.authorize.methods import BadParamsError, Target, check_tasks, exists, targets_of
from proxy.authorize.refusals import to_refusal
from proxy.authorize.rules import Rule, ServerRules
from proxy.errors import Refusal
from proxy.shared import Shared
from proxy.wire.era import Era
from proxy.wire.jsonrpc import Envelope, EnvelopeKind
from registry.models import Fleet, Server

REMEMBERED_CALLERS = 1024
REMEMBERED_GRANTS = 128
_UNKNOWN: dict[Kind, tuple[AuthzCode, str]] = {
    "tools": (AuthzCode.UNKNOWN_TOOL, "Unknown tool"),
    "prompts": (AuthzCode.UNKNOWN_PROMPT, "Unknown prompt"),
    "resources": (AuthzCode.UNKNOWN_RESOURCE, "Resource not found"),
    "resourceTemplates": (AuthzCode.UNKNOWN_RESOURCE, "Resource not found"),
}


@dataclass(frozen=True, slots=True)
class Caller:
    """What matters of an identity for every decision about it; `granted` remembers what it was allowed."""

    scopes: frozenset[str]
    held: tuple[str, ...]
    agents: tuple[AgentView, ...]
    agent: str | None
    is_anonymous: bool
    can_step_up: bool
    granted: dict[tuple[Target, ...], Decision] = field(default_factory=dict[tuple[Target, ...], Decision])


class Policy:
    """The rules of one server, compiled once."""

    def __init__(self, server: Server, shared: Shared, challenges: Challenges) -> None:
        self._rules = ServerRules(server)
        self._name = server.name
        self._shared = shared
        self._implications = shared.implications
        self._challenges = challenges
        self._callers: dict[tuple[object, ...], Caller] = {}

    @classmethod
    def build(cls, fleet: Fleet, server: Server, shared: Shared | None = None) -> "Policy":
        """Compile one server's rules. `shared` is the fleet's: found out once, it serves every server."""
        return cls(server, shared or Shared.of(fleet), Challenges(url_of(fleet, server), server.oauth.scopes))

    def decide(self, identity: Identity, http_method: str, envelope: Envelope | None, era: Era) -> Decision:
        """Decide about one request from its parsed body; without a body (GET, DELETE) about the access itself."""
        caller = self._caller(identity)
        if envelope is None or envelope.kind is EnvelopeKind.RESPONSE:
            known = envelope is not None or http_method in {"GET", "DELETE", "OPTIONS"}
            return self._recall(caller, ()) if known and era is Era.LEGACY else _deny_method(caller, http_method)
        decision = self._decide_message(caller, envelope, era)
        return decision if envelope.kind is EnvelopeKind.REQUEST else replace(decision, is_request=False)

    def _decide_message(self, caller: Caller, envelope: Envelope, era: Era) -> Decision:
        method, params = envelope.method, envelope.params
        if not exists(method, envelope.kind, era):
            return _deny_method(caller, method or "")
        try:
            targets = targets_of(method, params)
            check_tasks(method, params)
        except BadParamsError as error:
            return _deny(caller, AuthzCode.PARAMS, str(error))
        return self._recall(caller, targets)

    def decide_thing(self, identity: Identity, kind: Kind, name: str) -> Decision:
        """Decide whether a caller may use one tool, prompt or resource."""
        return self._recall(self._caller(identity), (Target(kind, name),))

    def is_visible(self, identity: Identity, kind: Kind, name: str) -> bool:
        """Whether a list may show one item to a caller: exactly what it may use."""
        return self.decide_thing(identity, kind, name).allowed

    def refusal(self, decision: Decision, era: Era) -> Refusal:
        """Turn a denial into the answer."""
        return to_refusal(decision, era, self._challenges)

    def _caller(self, identity: Identity) -> Caller:
        match identity:
            case Authenticated():
                key = (identity.subject, identity.client, identity.scopes, identity.asserted_by is None)
            case Anonymous():
                key = (None, None, identity.scopes, False)
        known = self._callers.get(key)
        if known is None:
            if len(self._callers) >= REMEMBERED_CALLERS:
                self._callers.clear()
            known = self._callers[key] = self._read_caller(identity)
        return known

    def _read_caller(self, identity: Identity) -> Caller:
        known = identity if isinstance(identity, Authenticated) else None
        found = self._shared.agents_of(known.subject, known.client) if known else ()
        agents = tuple(AgentView(agent, self._name) for agent in found)
        return Caller(
            scopes=identity.scopes,
            held=tuple(sorted(identity.scopes)),
            agents=agents,
            agent=",".join(view.name for view in agents) or None,
            is_anonymous=known is None,
            can_step_up=known is not None and known.asserted_by is None,
        )

    def _recall(self, caller: Caller, targets: tuple[Target, ...]) -> Decision:
        """Decide once: rules and caller do not change while this policy lives."""
        known = caller.granted.get(targets)
        if known is not None:
            return known
        decision = self._decide_targets(caller, targets)
        if decision.allowed and len(targets) <= 1:
            if len(caller.granted) >= REMEMBERED_GRANTS:
                caller.granted.clear()
            caller.granted[targets] = decision
        return decision

    def _decide_targets(self, caller: Caller, targets: Sequence[Target]) -> Decision:
        if not all(view.is_there for view in caller.agents):
            reason = f"agent {caller.agent} does not declare this server"
            return _deny(caller, AuthzCode.AGENT_SERVER, reason, told="there is no such server")
        rules: list[Rule] = [] if targets else [self._rules.base]
        for target in targets:
            found = self._rules.find(target.kind, target.name)
            if not found or not all(view.declares(target.kind, target.name) for view in caller.agents):
                return _deny_thing(caller, target, exists=bool(found))
            rules.extend(found)
        return self._weigh(caller, rules, targets[0].kind if targets else None)

    def _weigh(self, caller: Caller, rules: Sequence[Rule], kind: Kind | None) -> Decision:
        """Hold what the caller has against what the rules need; all rules, one way of each."""
        required: dict[str, None] = {}
        matched: dict[str, None] = {}
        is_met = True
        for rule in rules:
            way, satisfied_by = self._best_way(caller, rule)
            required.update(dict.fromkeys(way))
            matched.update(dict.fromkeys(satisfied_by or ()))
            is_met = is_met and satisfied_by is not None
        needed = tuple(required)
        if not is_met:
            return self._deny_scopes(caller, needed, kind)
        reason = f"every needed scope is held: {' '.join(needed)}" if needed else "no scope is needed"
        declared = rules[-1].declared
        return Decision(
            True, AuthzCode.ALLOWED, reason, needed, caller.held, tuple(matched), caller.agent, kind, declared
        )

    def _best_way(self, caller: Caller, rule: Rule) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
        """Return the first way that the caller's scopes open, or the one that lacks least."""
        for way in rule.ways:
            matched = self._implications.match(caller.scopes, way)
            if matched is not None:
                return way, matched
        return min(rule.ways, key=lambda way: len(self._implications.missing(caller.scopes, way))), None

    def _deny_scopes(self, caller: Caller, needed: tuple[str, ...], kind: Kind | None) -> Decision:
        missing = " ".join(self._implications.missing(caller.scopes, needed))
        if caller.is_anonymous:
            return _deny(
                caller, AuthzCode.CREDENTIAL, f"a bearer token with {missing} is needed", required=needed, kind=kind
            )
        return _deny(caller, AuthzCode.SCOPE, f"missing scope: {missing}", required=needed, kind=kind)


def _deny(
    caller: Caller,
    code: AuthzCode,
    reason: str,
    *,
    required: tuple[str, ...] = (),
    kind: Kind | None = None,
    told: str | None = None,
) -> Decision:
    return Decision(
        allowed=False,
        code=code,
        reason=reason,
        required=required,
        held=caller.held,
        agent=caller.agent,
        kind=kind,
        told=told,
        can_step_up=caller.can_step_up,
    )


def _deny_method(caller: Caller, method: str) -> Decision:
    return _deny(caller, AuthzCode.METHOD, f"Method not found: {shown(method)}")


def _deny_thing(caller: Caller, target: Target, *, exists: bool) -> Decision:
    code, sentence = _UNKNOWN[target.kind]
    told = f"{sentence}: {shown(target.name)}"
    if not exists:
        return _deny(caller, code, told, kind=target.kind)
    reason = f"agent {caller.agent} does not declare {shown(target.name)} ({target.kind})"
    return _deny(caller, AuthzCode.AGENT, reason, kind=target.kind, told=told)
