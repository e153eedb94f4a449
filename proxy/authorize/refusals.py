"""From a denial to the answer: status and JSON-RPC code per era, challenge, what the caller may learn. Pure."""

from proxy import errors
from proxy.auth.challenges import HEADER, Challenges
from proxy.authorize.decision import AuthzCode, Decision, Kind
from proxy.errors import Refusal
from proxy.wire.era import Era

LEGACY_RESOURCE_NOT_FOUND = -32002
_UNKNOWN_CODE: dict[Kind | None, AuthzCode] = {
    "tools": AuthzCode.UNKNOWN_TOOL,
    "prompts": AuthzCode.UNKNOWN_PROMPT,
    "resources": AuthzCode.UNKNOWN_RESOURCE,
    "resourceTemplates": AuthzCode.UNKNOWN_RESOURCE,
}


def to_refusal(decision: Decision, era: Era, challenges: Challenges) -> Refusal:
    """Return the answer to a denied request."""
    match decision.code:
        case AuthzCode.SCOPE:
            return _missing_scope(decision, challenges)
        case AuthzCode.CREDENTIAL:
            header = (HEADER, challenges.missing(decision.required))
            return _refuse(decision, 401, errors.UNAUTHENTICATED, header)
        case AuthzCode.METHOD:
            return _refuse(decision, _status(decision, era, 404), errors.METHOD_NOT_FOUND)
        case AuthzCode.AGENT_SERVER:
            return _refuse(decision, 404, errors.METHOD_NOT_FOUND, told_code="route.unknown_server")
        case AuthzCode.AGENT:
            told = _UNKNOWN_CODE.get(decision.kind, AuthzCode.UNKNOWN_TOOL)
            return _refuse(decision, _status(decision, era, 400), _not_found(decision, era), told_code=told)
        case (
            AuthzCode.PARAMS
            | AuthzCode.UNKNOWN_TOOL
            | AuthzCode.UNKNOWN_PROMPT
            | AuthzCode.UNKNOWN_RESOURCE
            | AuthzCode.UNKNOWN_TASK
        ):
            return _refuse(decision, _status(decision, era, 400), _not_found(decision, era))
        case AuthzCode.ALLOWED:
            raise ValueError("an allowed request has no refusal")


def _missing_scope(decision: Decision, challenges: Challenges) -> Refusal:
    """Challenge for the whole set; not a caller that a proxy vouches for, since no token of its own could help."""
    if not decision.can_step_up:
        return _refuse(decision, 403, errors.FORBIDDEN)
    return _refuse(decision, 403, errors.FORBIDDEN, (HEADER, challenges.insufficient(decision.required)))


def _status(decision: Decision, era: Era, modern: int) -> int:
    """Return 200 for a legacy request, whose servers answer errors so; a notification has nothing but the status."""
    return 200 if era is Era.LEGACY and decision.is_request else modern


def _not_found(decision: Decision, era: Era) -> int:
    is_resource = decision.kind in {"resources", "resourceTemplates"}
    return LEGACY_RESOURCE_NOT_FOUND if is_resource and era is Era.LEGACY else errors.INVALID_PARAMS


def _refuse(
    decision: Decision, status: int, rpc_code: int, *headers: tuple[bytes, bytes], told_code: str | None = None
) -> Refusal:
    told = (told_code or decision.code, decision.told) if decision.told else None
    data: dict[str, object] | None = {"requiredScopes": list(decision.required)} if decision.required else None
    return Refusal(decision.code, status, rpc_code, decision.reason, headers, data, told)
